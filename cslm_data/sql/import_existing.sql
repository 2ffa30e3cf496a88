-- The finished rows of one tokenizer, refused ones included. One row per utterance and version of its
-- audio.
create or replace temp view existing as
select
    utt_id,
    units,
    durations,
    audio_version,
    reject_reason,
from read_parquet({files})
