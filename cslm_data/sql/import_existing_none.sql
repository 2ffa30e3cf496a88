-- Before the first part of a tokenizer: nothing is there.
create or replace temp view existing as
select
    utt_id,
    units,
    durations,
    audio_version,
    null::varchar as reject_reason,
from units
where false
