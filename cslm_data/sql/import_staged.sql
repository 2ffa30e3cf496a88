-- The lines of unit files as they were read. One row per line.
create or replace temp view staged as
select *
from read_parquet({files})
