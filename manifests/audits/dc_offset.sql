-- title: Audio that is not centred on zero
-- severity: warning
-- why: A constant offset is a fault of the recording; it eats headroom and spoils levels and silence.
-- fix: Convert with a high-pass filter and ingest again, or cslm-data filter "utt_id in (select utt_id
--   from measures where abs(dc_offset) > 0.02)" --reason dc_offset.
-- needs: measures

-- One row per utterance with a mean beyond 2 % of full scale.
select utt_id, utterances.corpus, round(measures.dc_offset, 4) as dc_offset, round(measures.rms_db, 1) as rms_db
from measures
inner join utterances using (utt_id, audio_version)
where abs(measures.dc_offset) > 0.02
order by abs(measures.dc_offset) desc, utt_id;
