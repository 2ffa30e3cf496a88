-- Put the chosen samples of a split in their order, a new shard whenever the size is reached.
-- `place` says where along the mix a sample comes, from 0 to 1, given its `drawn`.
insert into plan
with hashed as (
    select *, keyed64(epoch_hash, $mask) as order_hash
    from chosen
    where split = $split
),

drawn as (
    select *, least(order_hash::double / 18446744073709551616.0, 0.9999999999999999) as drawn
    from hashed
),

placed as (
    select *, {place} as place
    from drawn
),

sorted as (
    select *
    from placed
    order by place, order_hash, epoch_hash, source
),

counted as (
    select
        *,
        row_number() over () - 1 as position,
        sum(num_bytes) over (rows between unbounded preceding and current row) as running_bytes,
    from sorted
)

select
    ($first + position)::ubigint as ordinal,
    split,
    position::ubigint as position,
    source,
    epoch,
    id_hash,
    epoch_hash,
    order_hash,
    num_tokens,
    num_units,
    ((running_bytes - num_bytes) // $shard_bytes)::uinteger as shard,
from counted
