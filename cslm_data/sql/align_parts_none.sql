-- Before the first part of an aligner: nothing is aligned.
create or replace temp view parts as
select
    utt_id,
    audio_version,
    language,
    text_key as text_hash,
    0 as num_words,
    0.0 as sum_scores,
    '' as reject_reason,
    '' as part,
from utterances
where false
