-- The part of a source's word and phone times: one row per utterance.
copy (
    select utt_id, words, phones, source_uri, row_hash
    from arrived
    order by utt_id
) to '{file}' (format parquet, compression zstd)
