-- Sample keys that occur twice in one mix. One row per (mix, key).
-- WebDataset joins members by key, so two samples would become one: rebuild the mix.
select mix, "key", count(*) as samples
from mix_samples
group by all
having count(*) > 1
order by mix, "key";
