-- Some utterances in keyed order, neither very short nor long, to compare two ways of computing
-- their units. One row per utterance.
with placed as (
    select
        utt_id,
        audio,
        offset_s,
        duration_s,
        language,
        audio_version,
        key_hash,
        sum(duration_s) over (order by key_hash, utt_id) as until_s,
    from utterances
    where duration_s between 0.1 and 30
)

select
    utt_id,
    audio,
    offset_s,
    duration_s,
    language,
    audio_version,
from placed
where until_s <= $seconds
order by key_hash, utt_id
