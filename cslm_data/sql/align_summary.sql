-- What the finished parts of an aligner hold of the chosen speech as it is now; reason `elsewhere` for
-- speech that has times of another aligner only. One row per language, reason of refusal ('' for none)
-- and whether the part was there before this run. Needs `chosen`, `parts`, `earlier` (part: file names).
with results as (
    select
        chosen.utt_id,
        chosen.language,
        case when parts.utt_id is null then 'elsewhere' else coalesce(parts.reject_reason, '') end as reason,
        coalesce(parts.part in (select part from earlier), true) as is_earlier,
        parts.num_words,
        parts.sum_scores,
    from chosen
    left join parts
        on
            chosen.utt_id = parts.utt_id
            and chosen.audio_version = parts.audio_version
            and chosen.language = parts.language
            and parts.text_hash is not distinct from md5_number_lower(chosen."text")
)

select
    language,
    reason,
    is_earlier,
    count(*) as num_utterances,
    sum(num_words)::ubigint as num_words,
    sum(sum_scores) as sum_scores,
from results
group by all
order by all
