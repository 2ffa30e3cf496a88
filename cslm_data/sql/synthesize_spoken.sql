-- What the parts of a job hold, of each row of the catalog the version that was spoken last. One row per
-- row of the catalog.
create or replace temp view spoken as
with parts as (
    select *, parse_filename(filename) as part
    from read_parquet({files}, filename = true, file_row_number = true)
),

latest as (
    select id, max(part) as part
    from parts
    group by id
)

select parts.* exclude (filename)
from parts
inner join latest using (id, part)
