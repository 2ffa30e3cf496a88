-- Everything that some plan of one aligner holds: one row per utterance, version of its audio, language
-- and transcript.
create or replace temp view planned as
select distinct
    utt_id,
    audio_version,
    language,
    "text",
from read_parquet({files})
