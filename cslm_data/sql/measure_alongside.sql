-- What some parts of a plan of units hold that was not measured, in the order of the plan. One row
-- per utterance. Needs the relation `waiting` (part: indices).
select
    part,
    utt_id,
    audio,
    offset_s,
    duration_s,
    language,
    audio_version,
from read_parquet('{plan}', file_row_number = true)
semi join waiting using (part)
anti join measures using (utt_id, audio_version)
order by file_row_number
