-- The rows behind the samples of a plan, in the order of the plan. One row per sample.
-- {rows} are the candidate rows that were set aside; `plan` holds the samples to write.
with candidates as (
    select candidate, source_ids, turns
    from read_parquet({rows})
)

select
    plan.shard,
    plan.source,
    plan.epoch,
    candidates.source_ids,
    candidates.turns,
from plan
inner join candidates using (candidate)
order by plan.ordinal
