-- The sentence pairs of a source as they go into the catalog. One row per pair.
create or replace temp view incoming as
select
    pair_id,
    corpus,
    src_lang,
    tgt_lang,
    src,
    tgt,
    md5_number_lower(normalise_text(src, src_lang)) as src_key,
    md5_number_lower(normalise_text(tgt, tgt_lang)) as tgt_key,
    license,
    split,
    md5_number_lower(pair_id) as key_hash,
    '{source}' as source_uri,
    place,
    hash(
        pair_id, corpus, src_lang, tgt_lang, src, tgt,
        license, split
    ) as row_hash,
from raw_bitext
where rowid not in (select verdicts.row_id from verdicts)
