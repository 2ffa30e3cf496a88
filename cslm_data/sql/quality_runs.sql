-- How long the runs of a tokenizer's units are, $longest frames and over counted together. One row
-- per language and length. Needs the table `shared_utterances`.
with runs as (
    select shared_utterances.language, unnest(units.durations) as num_frames
    from units
    inner join shared_utterances using (utt_id, audio_version)
    where units.tokenizer_id = $tokenizer_id
)

select
    language,
    least(num_frames, $longest) as length,
    count(*) as num_runs,
from runs
group by all
order by language, length
