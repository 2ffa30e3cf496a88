-- Lines in all, and those that are there already. One row. Needs the table `matched`.
select count(*) as num_lines, count(*) filter (where is_already and reason is null) as num_already
from matched
