-- Utterances that a report on unit quality is about: those whose audio, as it is now, has units of
-- every tokenizer of $tokenizer_ids, in $languages (null: all). One row per utterance; `place` is a
-- keyed order.
create or replace temp table shared_utterances as
with encoded as (
    select utt_id, audio_version
    from units
    where list_contains($tokenizer_ids, tokenizer_id) and len(units) > 0
    group by all
    having count(distinct tokenizer_id) = len($tokenizer_ids)
)

select
    utterances.utt_id,
    utterances.audio_version,
    utterances.language,
    utterances.corpus,
    utterances.speaker,
    utterances.audio,
    utterances.offset_s,
    utterances.duration_s,
    xor(utterances.key_hash, $mask::ubigint) as place,
from utterances
inner join encoded using (utt_id, audio_version)
where $languages is null or list_contains($languages, utterances.language)
