-- Rows of {raw}: all, refused, linked. One row.
select
    (select count(*) from {raw}) as num_rows,
    count(*) filter (where not linked) as num_rejected,
    count(*) filter (where linked) as num_linked,
from verdicts
