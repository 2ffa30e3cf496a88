-- Utterances whose audio, as it is now, is in no plan of this tokenizer. One row per utterance.
-- Needs the relation `planned` (utt_id, audio_version).
create or replace temp table todo as
select
    utterances.utt_id,
    utterances.audio,
    utterances.offset_s,
    utterances.duration_s,
    utterances.language,
    utterances.audio_version,
    utterances.key_hash as place,
from utterances
anti join planned using (utt_id, audio_version)
