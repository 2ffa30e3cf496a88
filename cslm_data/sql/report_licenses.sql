-- Under which licence each corpus has what. One row per (corpus, licence), the largest first.
with rows as (
    select corpus, license, duration_s, 1 as utterances, 0 as pairs, 0 as dialogues from utterances
    union all
    select corpus, license, 0 as duration_s, 0 as utterances, 1 as pairs, 0 as dialogues from bitext
    union all
    select corpus, license, 0 as duration_s, 0 as utterances, 0 as pairs, 1 as dialogues from dialogues
)

select
    corpus,
    coalesce(license, 'not stated') as licence,
    sum(duration_s) / 3600 as hours,
    sum(utterances)::bigint as utterances,
    sum(pairs)::bigint as pairs,
    sum(dialogues)::bigint as dialogues,
    count(*) over () as num_groups,
from rows
group by corpus, license
order by hours desc, pairs desc, dialogues desc, corpus, licence
limit $max_rows
