-- Which of the rows that say or sound the same are moved out, and what was kept instead. One row per row
-- to move. The rows are those of another dedup_*.sql. $keep is first, longest or best-snr; "first" is by a
-- hash of the id, so that the order of reading decides nothing.
with rows as (
    {rows}
),

placed as (
    select
        id,
        row_number() over (same order by
            case $keep when 'longest' then -duration_s when 'best-snr' then -coalesce(snr_db, '-inf'::double) end,
            key_hash,
            id
        ) as place,
        first(id) over (same order by
            case $keep when 'longest' then -duration_s when 'best-snr' then -coalesce(snr_db, '-inf'::double) end,
            key_hash,
            id
        ) as duplicate_of,
    from rows
    where content is not null and ($within <> 'speaker' or speaker is not null)
    window same as (
        partition by
            content,
            case when $within <> 'all' then language end,
            case when $within in ('corpus', 'speaker') then corpus end,
            case when $within = 'speaker' then speaker end
    )
)

select id, duplicate_of
from placed
where place > $keep_max
