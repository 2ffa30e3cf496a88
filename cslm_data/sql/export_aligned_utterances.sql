-- Utterances split by split, with their words and phones where the catalog has them. One row per
-- utterance.
with chosen as (
    {export_chosen}
),

timed as (
    {export_best_alignments}
)

select
    chosen.utt_id,
    chosen.corpus,
    chosen.audio,
    chosen.offset_s,
    chosen.duration_s,
    chosen.sample_rate_hz,
    chosen.num_channels,
    chosen.language,
    chosen.speaker,
    chosen.text,
    chosen.kind,
    chosen.license,
    chosen.split,
    timed.words,
    timed.phones,
from chosen
left join timed using (utt_id)
order by coalesce(chosen.split, 'all'), chosen.utt_id
