-- The dialogues of a source as they go into the catalog. One row per dialogue. Its language is that of
-- its first question.
create or replace temp view incoming as
with kept as (
    select
        *,
        normalise_texts(
            list_transform(turns, lambda turn: turn.text),
            list_transform(turns, lambda turn: turn.language)
        ) as normal_texts,
    from raw_dialogues
    where rowid not in (select verdicts.row_id from verdicts)
)

select
    dialogue_id,
    corpus,
    parallel_id,
    list_filter(turns, lambda turn: turn.role = 'user')[1].language as "language",
    list_transform(range(1, len(turns) + 1), lambda i: {
        'role': turns[i].role,
        'language': turns[i].language,
        'text': turns[i].text,
        'text_key': md5_number_lower(normal_texts[i]),
        'audio': turns[i].audio,
        'offset_s': turns[i].offset_s,
        'speaker': turns[i].speaker,
        'utt_id': turns[i].utt_id
    }) as turns,
    license,
    split,
    md5_number_lower(dialogue_id) as key_hash,
    '{source}' as source_uri,
    place,
    hash(
        dialogue_id, corpus, parallel_id, turns,
        array_to_string(normal_texts, chr(31)), license, split
    ) as row_hash,
from kept
