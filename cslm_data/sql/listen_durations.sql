-- How long units last, on average over a keyed sample of utterances. One row per unit seen.
with sample as (
    select units.units, units.durations
    from utterances
    inner join units using (utt_id, audio_version)
    where units.tokenizer_id = $tokenizer_id
    order by xor(utterances.key_hash, $mask::ubigint), utterances.utt_id
    limit $limit
),

runs as (
    select unnest(units) as unit, unnest(durations) as duration
    from sample
)

select unit, avg(duration) as frames
from runs
group by unit
order by unit
