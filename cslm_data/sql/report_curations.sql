-- What filter and dedup moved out, and why. One row per curation, the latest first.
with hours as (
    select exclusions.curation_id, sum(all_utterances.duration_s) / 3600 as hours
    from exclusions
    inner join all_utterances on exclusions.id = all_utterances.utt_id
    where exclusions.table_name = 'utterances'
    group by all
)

select
    curations.curation_id as number,
    curations.kind,
    curations.table_name as moved_from,
    curations.reason,
    curations.predicate,
    case when curations.undone then 'undone' else 'in force' end as state,
    curations.num_rows::bigint as rows,
    hours.hours,
    count(*) over () as num_groups,
from curations
left join hours using (curation_id)
order by number desc
limit $max_rows
