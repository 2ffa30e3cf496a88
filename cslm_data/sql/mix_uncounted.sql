-- Texts of some languages whose tokens are not counted yet, as often as they are said.
with said as (
    select text
    from utterances
    where list_contains($languages, language) and text_key is not null
    union all
    select src as text
    from bitext
    where list_contains($languages, src_lang)
    union all
    select tgt as text
    from bitext
    where list_contains($languages, tgt_lang)
    union all
    select t.text
    from dialogues, unnest(turns) as u(t)
    where list_contains($languages, t.language) and t.text is not null
),

hashed as (
    select md5_number_lower(text) as text_hash, text
    from said
)

select text_hash, text
from hashed
anti join token_counts using (text_hash)
