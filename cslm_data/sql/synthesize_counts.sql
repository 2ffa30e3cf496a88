-- How many rows of the catalog were spoken, by this run or before it, or not for some reason. One row per
-- reason (null: spoken) and whether the part was there before. Needs the table `earlier`.
select
    reject_reason,
    part in (select earlier.part from earlier) as is_earlier,
    count(*) as num_rows,
from spoken
group by all
order by all
