-- Every curation, the newest first. One row per curation.
select
    curation_id,
    kind,
    table_name,
    predicate,
    reason,
    num_rows,
    undone,
from curations
order by curation_id desc
