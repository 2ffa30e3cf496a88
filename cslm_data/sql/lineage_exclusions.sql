-- Every filter and dedup that moved one row out, undone or not. One row per curation.
select
    curations.curation_id,
    curations.kind,
    curations.predicate,
    curations.reason,
    exclusions.duplicate_of,
    curations.undone,
from exclusions
inner join curations using (curation_id)
where exclusions.id = $id and exclusions.table_name = $table
order by curations.curation_id
