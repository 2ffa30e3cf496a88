-- The finished parts of one tokenizer: one row per utterance, refused ones included.
create or replace temp view parts as
select
    utt_id,
    units,
    num_frames,
    audio_version,
    reject_reason,
    parse_filename(filename) as part,
from read_parquet({files}, filename = true)
