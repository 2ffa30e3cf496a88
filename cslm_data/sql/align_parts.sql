-- The finished parts of one aligner: one row per utterance, refused ones included.
create or replace temp view parts as
select
    utt_id,
    audio_version,
    language,
    text_hash,
    len(words) as num_words,
    list_sum([word.score for word in words]) as sum_scores,
    reject_reason,
    parse_filename(filename) as part,
from read_parquet({files}, filename = true)
