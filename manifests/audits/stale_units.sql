-- title: Units of an earlier version of the audio
-- severity: warning
-- why: The recording changed after it was quantized; its old units are in no mix.
-- fix: cslm-data quantize
-- needs: units

-- One row per utterance and speech tokenizer.
with current_ones as (
    select units.tokenizer_id, utt_id
    from units
    inner join utterances using (utt_id, audio_version)
)

select distinct units.tokenizer_id, utt_id, utterances.corpus, utterances.audio
from units
inner join utterances using (utt_id)
anti join current_ones using (tokenizer_id, utt_id)
where units.audio_version <> utterances.audio_version
order by units.tokenizer_id, utt_id;
