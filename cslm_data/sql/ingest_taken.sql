-- Refuse the rows of {raw} whose id another source's row of {table} already has.
insert into verdicts
select
    raws.rowid,
    'duplicate_id',
    $name || ': ' || min(others.source_uri) || ' has a row of this id; ids are unique over all sources',
    false
from {raw} as raws
inner join {table} as others on raws.{id} = others.{id} and others.source_uri <> $source
where raws.rowid not in (select verdicts.row_id from verdicts)
group by raws.rowid
