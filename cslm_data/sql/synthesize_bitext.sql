-- Translations whose two sides could be spoken. One row per pair. {where} is a predicate over them.
with candidates as (
    select
        bitext.*,
        len(src) as src_characters,
        len(tgt) as tgt_characters,
    from bitext
)

select
    pair_id as id,
    corpus,
    license,
    split,
    null::varchar as parallel_id,
    [
        {'role': 'src', 'language': src_lang, 'text': src},
        {'role': 'tgt', 'language': tgt_lang, 'text': tgt},
    ] as turns,
from candidates
where
    list_contains($languages, src_lang)
    and list_contains($languages, tgt_lang)
    and ($corpus is null or corpus = $corpus)
    and ({where})
