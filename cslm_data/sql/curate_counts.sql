-- What is moved out, and of how much. One row per corpus and language that `chosen` (id, duplicate_of)
-- has rows of. {table} and {id} are the view and its id; {language} and {seconds} are of its rows.
with rows as (
    select
        corpus,
        {language} as language,
        {id} as id,
        {seconds} as duration_s,
    from {table}
)

select
    rows.corpus,
    rows.language,
    count(chosen.id)::ubigint as num_rows,
    count(*)::ubigint as num_before,
    coalesce(sum(rows.duration_s) filter (where chosen.id is not null), 0) / 3600 as hours,
from rows
left join chosen using (id)
group by all
having count(chosen.id) > 0
order by rows.corpus, rows.language
