-- Candidates of instruct: dialogues of a language that are text alone. One row per dialogue.
-- {where} is the recipe's predicate over `dialogues`.
with chosen as (
    select dialogue_id, corpus, split, turns
    from dialogues
    where
        language = $language
        and len(list_filter(turns, lambda t: t.audio is not null or t.utt_id is not null)) = 0
        and xor(key_hash, $mask::ubigint) <= $threshold::ubigint
        and ({where})
)

select
    [dialogue_id] as source_ids,
    corpus,
    [split] as splits,
    list_filter(turns, lambda t: t.role = 'user')[1].text_key as sentence,
    list_transform(turns, lambda t: {
        'role': t.role,
        'language': t.language,
        'text': t.text,
        'units': null::usmallint[],
        'durations': null::usmallint[],
        'words': null::struct(word varchar, start_s double, end_s double, score double)[]
    }) as turns,
from chosen
order by dialogue_id
