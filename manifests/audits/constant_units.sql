-- title: Utterances of one unit
-- severity: warning
-- why: More than nine tenths of the time is the same unit: silence, a tone, a dead channel.
-- fix: Listen to some (cslm-data listen UTT), then cslm-data filter "utt_id in (…)" --reason
--   constant_units.
-- needs: units

-- One row per utterance of more than a second and speech tokenizer. A unit never follows itself, so it
-- is at most every other run: those whose longer half of runs holds less are not looked into.
with long_halves as (
    select
        units.tokenizer_id,
        utt_id,
        utterances.corpus,
        utterances.duration_s,
        units.units,
        units.durations,
        units.num_frames,
    from units
    inner join utterances using (utt_id, audio_version)
    where
        utterances.duration_s > 1
        and list_sum(list_reverse_sort(units.durations)[1:(len(units.durations) + 1) // 2]) > 0.9 * units.num_frames
),

runs as (
    select tokenizer_id, utt_id, unnest(units) as unit, unnest(durations) as frames
    from long_halves
),

shares as (
    select tokenizer_id, utt_id, unit, sum(frames) as frames
    from runs
    group by tokenizer_id, utt_id, unit
)

select
    shares.tokenizer_id,
    shares.utt_id,
    long_halves.corpus,
    shares.unit,
    round(shares.frames / long_halves.num_frames, 3) as share,
    round(long_halves.duration_s, 3) as duration_s,
from shares
inner join long_halves using (tokenizer_id, utt_id)
where shares.frames > 0.9 * long_halves.num_frames
order by shares.tokenizer_id, shares.utt_id;
