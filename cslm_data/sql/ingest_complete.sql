-- Utterances with what their recording's header says, or, where there is none in `headers`, with what the
-- manifest does. One row per row of raw_utterances that is not refused.
create or replace temp view complete as
select
    raws.rowid as row_id,
    raws.* exclude (duration_s, sample_rate_hz, num_channels, reason, detail),
    raws.duration_s as said_s,
    coalesce(raws.duration_s, headers.duration_s - raws.offset_s) as duration_s,
    headers.duration_s as recording_s,
    coalesce(headers.sample_rate_hz, raws.sample_rate_hz) as sample_rate_hz,
    coalesce(headers.num_channels, raws.num_channels) as num_channels,
    -- Of a recording that was not opened: another one in its place is not noticed.
    coalesce(
        headers.audio_version,
        concat('stated-', raws.offset_s, '+', raws.duration_s, '@', raws.sample_rate_hz)
    ) as audio_version,
    headers.reason,
    headers.detail,
from raw_utterances as raws
left join headers using (audio)
anti join verdicts on raws.rowid = verdicts.row_id
