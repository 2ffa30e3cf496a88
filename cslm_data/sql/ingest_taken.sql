-- Ids of the incoming rows that another source's rows of {table} already have. One row per id.
select incoming.{id} as id, any_value({table}.source_uri) as other
from incoming
inner join {table} on incoming.{id} = {table}.{id} and {table}.source_uri <> '{source}'
group by incoming.{id}
order by id;
