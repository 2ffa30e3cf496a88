-- title: Audio with hardly any sound
-- severity: warning
-- why: Silence with a transcript teaches to make words up.
-- fix: cslm-data filter "utt_id in (select utt_id from measures where rms_db < -60 or silence_share >
--   0.95)" --reason silent. Where a channel is dead, convert the other one.
-- needs: measures

-- One row per utterance below -60 dB of full scale, or silent for 95 % of its time.
select
    utt_id,
    utterances.corpus,
    round(utterances.duration_s, 3) as duration_s,
    round(measures.rms_db, 1) as rms_db,
    round(measures.silence_share, 3) as silence_share,
from measures
inner join utterances using (utt_id, audio_version)
where coalesce(measures.rms_db, '-inf'::double) < -60 or measures.silence_share > 0.95
order by measures.rms_db nulls first, utt_id;
