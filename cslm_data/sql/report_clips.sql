-- Utterances by id, with what is needed to hear them; those moved out too. One row for each found.
select
    utt_id,
    audio,
    offset_s,
    duration_s,
    language,
    text,
    audio_version,
from all_utterances
where utt_id in (select unnest($utt_ids::varchar[]))
order by utt_id
