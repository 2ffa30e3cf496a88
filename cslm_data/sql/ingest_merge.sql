-- One source's rows into a table that has rows of it already: what it no longer says goes, what changed is
-- replaced, what is new comes, what stays may have moved in its file. `arrived` holds the source's rows.
delete from {table}
where
    source_uri = $source
    and not exists (
        select 1 from arrived
        where arrived.{id} = {table}.{id} and arrived.row_hash = {table}.row_hash
    );

update {table}
set place = arrived.place
from arrived
where
    {table}.{id} = arrived.{id}
    and {table}.source_uri = $source
    and {table}.place <> arrived.place;

insert into {table} by name
select arrived.*
from arrived
where not exists (
    select 1 from {table}
    where {table}.{id} = arrived.{id} and {table}.source_uri = $source
);
