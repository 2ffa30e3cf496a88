-- One source's rows into a table: what it no longer says goes, what changed is replaced, what is new
-- comes. {table}, {id} and {source} are filled by ingest.py; `incoming` holds the source's rows.

delete from {table}
where
    source_uri = '{source}'
    and not exists (
        select 1 from incoming
        where incoming.{id} = {table}.{id} and incoming.row_hash = {table}.row_hash
    );

insert into {table} by name
select incoming.*
from incoming
where not exists (
    select 1 from {table}
    where {table}.{id} = incoming.{id} and {table}.source_uri = '{source}'
)
order by incoming.{id};
