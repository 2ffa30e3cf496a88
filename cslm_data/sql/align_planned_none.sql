-- Before the first plan of an aligner: no utterance is planned.
create or replace temp view planned as
select
    utt_id,
    audio_version,
    language,
    "text",
from utterances
where false
