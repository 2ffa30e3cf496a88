-- The samples of a plan in their order, which is that of the table `plan`. One row per sample.
select
    case plan.split when 0 then 'train' when 1 then 'valid' else 'test' end as split,
    plan.position,
    mix_sources.task || '-' || mix_sources.languages || '-'
        || format('{:016x}', keyed64(plan.id_hash, mix_sources.task_hash))
        || case when plan.epoch > 0 then '-e' || plan.epoch else '' end as "key",
    mix_sources.task,
    mix_sources.languages,
    plan.epoch,
    plan.order_hash,
    plan.num_tokens,
    plan.num_units,
from plan
inner join mix_sources using (source)
