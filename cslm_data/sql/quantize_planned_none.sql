-- Before the first plan of a tokenizer: no utterance is planned.
create or replace temp view planned as
select
    utt_id,
    audio_version,
from utterances
where false
