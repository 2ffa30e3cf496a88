-- Translations and the pair of sentences that makes two of them the same, whichever way round. One row
-- per pair.
select
    pair_id as id,
    concat_ws('|', least(src_key, tgt_key), greatest(src_key, tgt_key)) as content,
    corpus,
    concat_ws('-', least(src_lang, tgt_lang), greatest(src_lang, tgt_lang)) as language,
    null::varchar as speaker,
    0.0::double as duration_s,
    key_hash,
    null::double as snr_db,
from bitext
