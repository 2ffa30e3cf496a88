-- mix.parquet: every sample of a mix in its order. One row per sample.
-- {rows} are the candidate rows that were set aside; `plan` holds all samples.
with candidates as (
    select candidate, source_ids
    from read_parquet({rows})
)

select
    plan.split,
    plan.position::ubigint as position,
    plan."key",
    plan.task,
    plan.languages,
    candidates.source_ids,
    plan.epoch::uinteger as epoch,
    plan.num_tokens::uinteger as num_tokens,
    plan.num_units::uinteger as num_units,
    plan.shard,
from plan
inner join candidates using (candidate)
order by plan.ordinal
