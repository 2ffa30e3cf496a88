-- title: Segments of one recording that overlap
-- severity: warning
-- why: The stretch that both hold is trained on twice, each time with a part of its words missing; of
--   two speakers it is speech of one over the other.
-- fix: Mend the segments and ingest again, or cslm-data filter "utt_id = '…'" --reason overlap.

-- One row per segment that begins before an earlier one of the recording ends: by more than 0.3 s and a
-- tenth of the shorter one. The same stretch twice is in duplicate_audio.
with segments as (
    select utt_id, corpus, speaker, audio_version, audio, offset_s, duration_s, offset_s + duration_s as end_s
    from utterances
    where audio_version in (
        select audio_version from utterances group by audio_version having count(*) > 1
    )
),

ordered as (
    select
        segments.*,
        max({'end_s': end_s, 'duration_s': duration_s, 'offset_s': offset_s, 'speaker': speaker, 'utt_id': utt_id}) over (
            partition by audio_version
            order by offset_s, end_s, utt_id
            rows between unbounded preceding and 1 preceding
        ) as other,
    from segments
)

select
    corpus,
    round(least(end_s, other.end_s) - offset_s, 3) as overlap_s,
    speaker is not distinct from other.speaker as same_speaker,
    audio,
    [utt_id, other.utt_id] as utt_ids,
from ordered
where
    other is not null
    and least(end_s, other.end_s) - offset_s > greatest(0.3, 0.1 * least(duration_s, other.duration_s))
    and (offset_s, duration_s) <> (other.offset_s, other.duration_s)
order by audio, offset_s, end_s, utt_id;
