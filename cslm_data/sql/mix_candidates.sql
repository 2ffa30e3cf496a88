-- Candidates of a source as planning reads them. One row per candidate.
-- `counted` gives them with the key of what they say and the split of their corpus.
with counted as (
    {counted}
)

select
    counted.id_hash,
    counted.num_tokens::uinteger as num_tokens,
    counted.num_units::uinteger as num_units,
    counted.num_bytes::ubigint as num_bytes,
    case
        when $by_manifest then split_of(counted.split_name)
        else coalesce(sentence_splits.split, 0)
    end::utinyint as split,
    counted.quality::double as quality,
    counted.reject_reason,
    counted.reject_detail,
from counted
left join sentence_splits using (sentence)
