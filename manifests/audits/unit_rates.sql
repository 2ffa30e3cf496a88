-- title: Units per second and run lengths per speech tokenizer and language
-- severity: info
-- why: A language far from the others is spoken faster, recorded worse, or covered badly by the units.
-- fix: Compare with cslm-data unit-report; fit a tokenizer on more of that language.
-- needs: units

-- One row per (speech tokenizer, language).
select
    units.tokenizer_id,
    utterances.language,
    count(*) as utterances,
    round(sum(len(units.units)) / sum(utterances.duration_s), 2) as units_per_s,
    round(sum(units.num_frames) / sum(len(units.units)), 3) as mean_run_frames,
    sum(utterances.duration_s) / 3600 as hours,
from units
inner join utterances using (utt_id, audio_version)
group by units.tokenizer_id, utterances.language
order by units.tokenizer_id, utterances.language;
