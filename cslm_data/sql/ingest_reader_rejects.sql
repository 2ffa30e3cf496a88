-- What a reader refused without saying of which kind it would have been. One row per row.
insert into ingest_rejects by name
select 'ingest' as stage, corpus, "key", reason, detail, $source as source_uri
from raw_rejects
order by rowid
