-- What was chosen of each source. One row per source and split.
select source, split, count(*) as num_samples, sum(num_tokens) as num_tokens, count(distinct id_hash) as num_rows
from chosen
group by source, split
