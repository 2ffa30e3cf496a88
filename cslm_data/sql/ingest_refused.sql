-- Rejects of one kind of row of a source. One row per row refused.
insert into ingest_rejects by name
select
    'ingest' as stage,
    {corpus} as corpus,
    coalesce(raws.{id}, raws.place) as "key",
    verdicts.reason,
    verdicts.detail,
    $source as source_uri,
from {raw} as raws
inner join verdicts on raws.rowid = verdicts.row_id
where not verdicts.linked
order by raws.rowid
