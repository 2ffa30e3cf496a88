-- Rows of {raw} that are refused, and why, by their rowid; begins with what the reader refused. `linked`
-- rows are no rejects: turns that another manifest describes.
create or replace temp table verdicts as
select rowid as row_id, reason, detail, false as linked
from {raw}
where reason is not null
