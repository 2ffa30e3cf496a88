-- Everything that some plan of one tokenizer holds: one row per utterance and version of its audio.
create or replace temp view planned as
select
    utt_id,
    audio_version,
from read_parquet({files})
