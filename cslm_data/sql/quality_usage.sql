-- How often each language uses each unit of a tokenizer, as tokens and as frames. One row per
-- language and unit that it uses. Needs the table `shared_utterances`.
with runs as (
    select
        shared_utterances.language,
        unnest(units.units) as unit,
        unnest(units.durations) as num_frames,
    from units
    inner join shared_utterances using (utt_id, audio_version)
    where units.tokenizer_id = $tokenizer_id
)

select
    language,
    unit,
    count(*) as num_tokens,
    sum(num_frames)::bigint as num_frames,
from runs
group by all
order by language, unit
