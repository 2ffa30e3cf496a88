-- Candidates that were compiled, as planning reads them, with the rows they are made of. One row per
-- candidate. `compiled` and the rows at `aside` are in the same order.
with numbered as (
    select *, row_number() over () as place
    from compiled
),

aside as (
    select *, row_number() over () as place
    from read_parquet({aside})
)

select
    numbered.id_hash,
    numbered.num_tokens,
    numbered.num_units,
    numbered.num_bytes,
    case
        when $by_manifest then numbered.split_name
        else coalesce(sentence_splits.split, 0)
    end::utinyint as split,
    numbered.quality,
    numbered.reject_reason,
    numbered.reject_detail,
    aside.source_ids,
    aside.corpus,
    aside.turns,
from numbered
inner join aside using (place)
left join sentence_splits using (sentence)
order by place
