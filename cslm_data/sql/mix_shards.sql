-- Which samples go into which shard. One row per shard, in the order of the mix.
select split, shard, min(ordinal) as first, count(*) as num_samples
from plan
group by split, shard
order by split, shard
