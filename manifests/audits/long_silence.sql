-- title: Long silence around or inside of the speech
-- severity: warning
-- why: Units of silence cost tokens; a model learns to wait, and rates per second say nothing.
-- fix: Cut the segments closer to the speech, or cslm-data filter "utt_id in (…)" --reason silence.
-- needs: measures

-- One row per utterance with more than 1.5 s and a third of its time of silence at one end, or silent
-- for two thirds of its time. What is silent as a whole is in silent_audio.
select
    utt_id,
    utterances.corpus,
    round(utterances.duration_s, 3) as duration_s,
    round(measures.leading_silence_s, 3) as leading_silence_s,
    round(measures.trailing_silence_s, 3) as trailing_silence_s,
    round(measures.silence_share, 3) as silence_share,
from measures
inner join utterances using (utt_id, audio_version)
where
    coalesce(measures.rms_db, '-inf'::double) >= -60
    and measures.silence_share <= 0.95
    and (
        greatest(measures.leading_silence_s, measures.trailing_silence_s) > greatest(1.5, measures.decoded_s / 3)
        or (measures.silence_share > 2 / 3 and measures.silence_share * measures.decoded_s > 1.5)
    )
order by measures.silence_share desc, utt_id;
