-- Transcripts of recorded speech that could be spoken again. One row per utterance. {where} is a predicate
-- over them.
with candidates as (
    select
        utterances.*,
        len(text) as num_characters,
    from utterances
    where text is not null and kind not in ('tts', 'synthetic')
)

select
    utt_id as id,
    corpus,
    license,
    split,
    null::varchar as parallel_id,
    [{'role': 'text', 'language': language, 'text': text}] as turns,
from candidates
where
    list_contains($languages, language)
    and ($corpus is null or corpus = $corpus)
    and ({where})
