-- Utterances to plan: taken, not there, and in no plan yet. One row per utterance, in keyed order.
-- Needs the table `matched` and the relation `planned` (utt_id, audio_version).
select
    utt_id,
    audio,
    offset_s,
    duration_s,
    "language",
    audio_version,
from matched
anti join planned using (utt_id, audio_version)
where matched.reason is null and not matched.is_already
order by key_hash, utt_id
