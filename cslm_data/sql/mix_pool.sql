-- The candidates of a source: what each costs in its first epoch, and why some make no sample. One row per
-- candidate. `file` holds them; `prompt_tokens`, `left_out` and `repeated` are expressions over a row.
create or replace temp view {view} as
with hashed as (
    select *, keyed64(id_hash, {task_hash}) as sample_hash
    from read_parquet({file})
),

counted as (
    select *, num_tokens + {prompt_tokens} as total
    from hashed
)

select
    *,
    case
        when reject_reason is not null then reject_reason
        when total > {limit} then 'too_long'
        when {left_out} then 'left_out'
        when {repeated} then 'duplicate'
    end as reason,
from counted
