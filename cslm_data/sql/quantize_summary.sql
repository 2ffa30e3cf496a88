-- What the finished parts of a tokenizer hold of the speech in the catalog. One row per language,
-- reason of refusal ('' for none) and whether the part was there before this run.
-- Needs the relations `parts` and `earlier` (part: file names).
with results as (
    select
        utt_id,
        audio_version,
        coalesce(reject_reason, '') as reason,
        num_frames,
        len(units) as num_units,
        part in (select part from earlier) as is_earlier,
    from parts
)

select
    utterances.language,
    results.reason,
    results.is_earlier,
    count(*) as num_utterances,
    sum(results.num_frames)::ubigint as num_frames,
    sum(results.num_units)::ubigint as num_units,
from results
inner join utterances using (utt_id, audio_version)
group by all
order by all
