-- Utterances and the sentence that makes two of them the same. One row per utterance; content is null
-- where an utterance has none.
select
    utt_id as id,
    case when text_norm <> '' then text_key::varchar end as content,
    corpus,
    language,
    speaker,
    duration_s,
    key_hash,
    measures.snr_db,
from utterances
left join measures using (utt_id, audio_version)
