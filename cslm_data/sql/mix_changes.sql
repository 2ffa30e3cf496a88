-- Samples that only one of two plans has, `before` or the one in `chosen`. One row per sample.
with gone as (
    select 'gone' as change, source, epoch, split, id_hash, num_tokens from before
    anti join chosen using (source, epoch, split, id_hash)
),

come as (
    select 'new' as change, source, epoch, split, id_hash, num_tokens from chosen
    anti join before using (source, epoch, split, id_hash)
),

changed as (
    select * from gone
    union all
    select * from come
)

select
    changed.change,
    split,
    mix_sources.task,
    mix_sources.languages,
    sample_name(mix_sources.task, mix_sources.languages, keyed64(changed.id_hash, mix_sources.task_hash), changed.epoch) as "key",
    changed.num_tokens,
from changed
inner join mix_sources using (source)
order by changed.change, split, "key"
