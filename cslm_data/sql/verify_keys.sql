-- Keys that more than one sample of a mix has. One row per key: shard, key, detail.
-- $indexes: the indexes of all its shards, of all splits.
with places as (
    select "key", regexp_extract(filename, '([^/]+)[.]idx[.]parquet$', 1) as shard
    from read_parquet($indexes, filename = true)
)

select
    min(shard) as shard,
    "key",
    count(*) || ' samples have this key, in ' || string_agg(distinct shard, ', ' order by shard) as detail,
from places
group by "key"
having count(*) > 1
order by "key"
