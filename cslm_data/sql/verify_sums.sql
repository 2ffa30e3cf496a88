-- What mix.parquet says of each split. One row per split: samples, tokens, whether positions count up from 0.
-- $rows: mix.parquet.
select
    split,
    count(*) as num_samples,
    sum(num_tokens)::ubigint as num_tokens,
    min(position) = 0 and max(position) = count(*) - 1 and count(distinct position) = count(*) as is_counted,
from read_parquet($rows)
group by split
order by split
