-- title: Speech that hardly stands out from the noise
-- severity: warning
-- why: Units of noise are not units of speech, and transcripts of noisy speech are often wrong.
-- fix: Listen to some (cslm-data listen UTT), then cslm-data filter "utt_id in (select utt_id from
--   measures where snr_db < 5)" --reason noisy.
-- needs: measures

-- One row per utterance with less than 5 dB between speech and noise.
select utt_id, utterances.corpus, round(measures.snr_db, 1) as snr_db, round(measures.rms_db, 1) as rms_db
from measures
inner join utterances using (utt_id, audio_version)
where measures.snr_db < 5 and measures.rms_db >= -60
order by measures.snr_db, utt_id;
