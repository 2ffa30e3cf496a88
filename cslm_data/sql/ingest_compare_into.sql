-- What a merge will do to one source's rows of {table}: the table `merged`, one row of counts.
create or replace temp table merged as
with before as (
    select {id} as id, row_hash
    from {table}
    where source_uri = $source
),

after as (
    select {id} as id, row_hash
    from arrived
)

select
    count(*) filter (where before.id is null) as added,
    count(*) filter (where before.row_hash <> after.row_hash) as changed,
    count(*) filter (where before.row_hash = after.row_hash) as unchanged,
    count(*) filter (where after.id is null) as removed,
from before
full join after on before.id = after.id
