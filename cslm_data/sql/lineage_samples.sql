-- Samples of all mixes that are made of some rows of the catalog, or have one key. One row per sample.
select
    mix,
    split,
    position,
    "key",
    task,
    languages,
    epoch,
    num_tokens,
    shard,
    source_ids,
from mix_samples
where "key" = $key or list_has_any(source_ids, $ids)
order by mix, split, position
