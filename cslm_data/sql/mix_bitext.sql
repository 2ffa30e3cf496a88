-- Candidates of mt: translations from a language to another, whichever way round the corpus has
-- them. One row per pair. {where} is the recipe's predicate over `bitext`.
with chosen as (
    select pair_id, corpus, split, src_lang, tgt_lang, src, tgt, src_key
    from bitext
    where xor(key_hash, $mask::ubigint) <= $threshold::ubigint and ({where})
),

directed as (
    select pair_id, corpus, split, src_key, src as source, tgt as target
    from chosen
    where src_lang = $language and tgt_lang = $answer_language
    union all
    select pair_id, corpus, split, src_key, tgt as source, src as target
    from chosen
    where tgt_lang = $language and src_lang = $answer_language
)

select
    [pair_id] as source_ids,
    corpus,
    [split] as splits,
    src_key as sentence,
    [
        {
            'role': 'user',
            'language': $language,
            'text': source,
            'units': null::usmallint[],
            'durations': null::usmallint[],
            'words': null::struct(word varchar, start_s double, end_s double, score double)[]
        },
        {
            'role': 'assistant',
            'language': $answer_language,
            'text': target,
            'units': null,
            'durations': null,
            'words': null
        },
    ] as turns,
from directed
order by pair_id
