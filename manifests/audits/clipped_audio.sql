-- title: Clipped audio
-- severity: warning
-- why: Samples cut off at full scale sound harsh and blur the units.
-- fix: Look for an original of lower gain, or cslm-data filter "utt_id in (select utt_id from measures
--   where clipped_share > 0.001)" --reason clipped.
-- needs: measures

-- One row per utterance with more than a thousandth of its samples at full scale.
select utt_id, utterances.corpus, measures.clipped_share, round(measures.peak, 4) as peak, round(measures.rms_db, 1) as rms_db
from measures
inner join utterances using (utt_id, audio_version)
where measures.clipped_share > 0.001
order by measures.clipped_share desc, utt_id;
