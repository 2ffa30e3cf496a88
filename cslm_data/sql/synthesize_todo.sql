-- The chosen rows that no plan of the job holds as they are, in the order of the plan: keyed, so that
-- neighbours come from anywhere in a corpus. One row per row of the catalog.
select
    id,
    version,
    corpus,
    license,
    split,
    parallel_id,
    turns,
from chosen
anti join planned using (id, version)
order by place, id
