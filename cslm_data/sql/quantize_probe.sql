-- Some utterances in keyed order, neither very short nor long, to compare two ways of computing
-- their units. One row per utterance.
with first as (
    -- 300 of at least a tenth of a second outlast the half minute that is asked for at most.
    select *
    from utterances
    where duration_s between 0.1 and 30
    order by key_hash, utt_id
    limit 300
),

placed as (
    select
        utt_id,
        audio,
        offset_s,
        duration_s,
        language,
        audio_version,
        key_hash,
        sum(duration_s) over (order by key_hash, utt_id) as until_s,
    from first
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
