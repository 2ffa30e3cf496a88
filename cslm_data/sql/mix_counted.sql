-- Counts of texts, each text once. One row per distinct text. `counted` holds them as they came.
select text_hash, any_value(num_tokens) as num_tokens
from read_parquet({counted})
group by text_hash
