-- What was spoken, as the manifest of the job has it. One row per row of the catalog.
select
    id,
    corpus,
    license,
    split,
    parallel_id,
    turns,
    part,
from spoken
where reject_reason is null
order by part, file_row_number
