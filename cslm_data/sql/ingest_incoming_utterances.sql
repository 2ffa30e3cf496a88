-- The utterances of a source as they go into the catalog. One row per utterance.
create or replace temp view incoming as
with kept as (
    select *, normalise_text("text", "language") as text_norm
    from complete
    anti join verdicts on complete.row_id = verdicts.row_id
)

select
    utt_id,
    corpus,
    audio,
    offset_s,
    duration_s,
    sample_rate_hz,
    num_channels,
    "language",
    speaker,
    "text",
    text_norm,
    md5_number_lower(text_norm) as text_key,
    kind,
    license,
    split,
    audio_version,
    md5_number_lower(utt_id) as key_hash,
    '{source}' as source_uri,
    place,
    hash(
        utt_id, corpus, audio, offset_s, duration_s,
        sample_rate_hz, num_channels, "language", speaker, "text",
        text_norm, kind, license, split, audio_version
    ) as row_hash,
from kept
