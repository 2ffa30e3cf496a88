-- What some plan of the job holds. One row per row of the catalog and version of its texts.
create or replace temp view planned as
select id, version
from read_parquet({files})
