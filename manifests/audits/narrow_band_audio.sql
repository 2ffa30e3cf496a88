-- title: Audio with less bandwidth than its sample rate promises
-- severity: warning
-- why: A telephone or MP3 recording dressed as 16 kHz: its units are those of another channel.
-- fix: Look for the original, or cslm-data filter "utt_id in (select utt_id from measures where
--   bandwidth_hz < 4400)" --reason narrow_band.
-- needs: measures

-- One row per utterance whose sound ends below 55 % of what 16 kHz (or its own lower rate) could hold.
select
    utt_id,
    utterances.corpus,
    measures.sample_rate_hz,
    round(measures.bandwidth_hz) as bandwidth_hz,
    round(measures.snr_db, 1) as snr_db,
from measures
inner join utterances using (utt_id, audio_version)
where
    measures.bandwidth_hz < 0.55 * least(measures.sample_rate_hz, 16000) / 2
    and measures.bandwidth_hz > 0
    and measures.rms_db >= -60
order by measures.bandwidth_hz, utt_id;
