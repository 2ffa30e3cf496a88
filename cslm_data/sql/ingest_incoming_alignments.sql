-- The word and phone times of a source as they go into its part. One row per utterance.
create or replace temp view incoming as
select
    utt_id,
    words,
    phones,
    '{source}' as source_uri,
    md5_number_lower(concat_ws(
        chr(31),
        said(utt_id), said(words), said(phones)
    )) as row_hash,
from raw_alignments
where rowid not in (select verdicts.row_id from verdicts)
