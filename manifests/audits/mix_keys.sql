-- title: Sample keys that occur twice in one mix
-- severity: error
-- why: WebDataset joins members by key, so two samples become one.
-- fix: cslm-data build-mix … --overwrite
-- needs: mix

-- One row per (mix, key).
select mix, "key", count(*) as samples
from mix_samples
group by mix, "key"
having count(*) > 1
order by mix, "key";
