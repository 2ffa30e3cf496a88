-- Samples that mix.parquet and the indexes of the shards do not agree on. One row per sample: shard, key, detail.
-- $rows: mix.parquet; $indexes the indexes that can be read, $shards the names of their shards.
with places as (
    select
        "key",
        task,
        languages,
        num_units,
        regexp_extract(filename, '([^/]+)[.]idx[.]parquet$', 1) as shard,
        row_number() over (partition by filename order by json_offset) as place,
    from read_parquet($indexes, filename = true)
),

planned as (
    select *, row_number() over (partition by shard order by position) as place
    from read_parquet($rows)
    where list_contains($shards, shard)
),

compared as (
    select
        coalesce(planned.shard, places.shard) as shard,
        coalesce(planned."key", places."key") as "key",
        coalesce(planned.place, places.place) as place,
        case
            when places."key" is null then 'in mix.parquet, but not in the shard'
            when planned."key" is null then 'in the shard, but not in mix.parquet'
            when planned.place <> places.place then 'sample ' || places.place || ' of the shard, ' || planned.place || ' in mix.parquet'
            when (planned.task, planned.languages) <> (places.task, places.languages)
                then places.task || ' ' || places.languages || ' in the index, ' || planned.task || ' ' || planned.languages || ' in mix.parquet'
            when planned.num_units <> places.num_units
                then places.num_units || ' units in the index, ' || planned.num_units || ' in mix.parquet'
        end as detail,
    from planned
    full join places on planned.shard = places.shard and planned."key" = places."key"
)

select shard, "key", detail
from compared
where detail is not null
order by shard, place, "key"
