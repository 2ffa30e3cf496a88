-- Frames of up-to-date units of one tokenizer. One row.
select sum(units.num_frames) as num_frames
from utterances
inner join units using (utt_id, audio_version)
where units.tokenizer_id = ?
