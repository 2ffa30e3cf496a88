-- What was not spoken, and why. One row per row of the catalog.
select
    corpus,
    id,
    reject_reason,
    reject_detail,
from spoken
where reject_reason is not null
order by corpus, id
