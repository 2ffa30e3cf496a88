-- The order of a plan: keyed, so that neighbours come from anywhere in the corpus. One row per
-- utterance. Needs the table `todo`.
select
    utt_id,
    audio,
    offset_s,
    duration_s,
    language,
    audio_version,
from todo
order by place, utt_id
