-- The samples of a plan in their order, which is that of the table `plan`. One row per sample.
select
    case plan.split when 0 then 'train' when 1 then 'valid' else 'test' end as split,
    plan.position,
    sample_name(mix_sources.task, mix_sources.languages, keyed64(plan.id_hash, mix_sources.task_hash), plan.epoch) as "key",
    mix_sources.task,
    mix_sources.languages,
    plan.epoch,
    plan.order_hash,
    plan.num_tokens,
    plan.num_units,
from plan
inner join mix_sources using (source)
