-- The rows to speak, at most $limit of them by a keyed hash of their ids, with a hash of their texts. One
-- row per row of the catalog. {candidates} is one of synthesize_dialogues, _bitext, _utterances.
create or replace temp table chosen as
with candidates as ({candidates}),

sampled as (
    select *, md5_number_lower(id || '/' || $seed::varchar) as place
    from candidates
    order by place, id
    limit $limit
)

select
    *,
    md5(array_to_string(list_transform(turns, lambda t: concat_ws(chr(31), t.role, t.language, t.text)), chr(30))) as version,
from sampled
