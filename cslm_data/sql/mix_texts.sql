-- Every text of the catalog once, to train a text tokenizer on; of very many a keyed sample. One row per
-- distinct text.
with spoken as (
    select text
    from utterances
),

translated as (
    select unnest([src, tgt]) as text
    from bitext
),

said as (
    select unnest(turns).text as text
    from dialogues
)

select text
from spoken
where text is not null and md5_number_lower(text) <= $threshold::ubigint
union
select text
from translated
where md5_number_lower(text) <= $threshold::ubigint
union
select text
from said
where text is not null and md5_number_lower(text) <= $threshold::ubigint
order by text
