-- Units per second and run lengths per speech tokenizer and language. One row for each.
-- A language far from the others is spoken faster, recorded worse, or covered badly by the units.
select
    units.tokenizer_id,
    utterances.language,
    count(*) as utterances,
    round(sum(len(units.units)) / sum(utterances.duration_s), 2) as units_per_s,
    round(sum(units.num_frames) / sum(len(units.units)), 3) as mean_run_frames,
from units
inner join utterances using (utt_id, audio_version)
group by all
order by units.tokenizer_id, utterances.language;
