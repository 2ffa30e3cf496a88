-- Utterances split by split. One row per utterance.
with chosen as (
    {export_chosen}
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
    kind,
    license,
    split,
from chosen
order by coalesce(split, 'all'), utt_id
