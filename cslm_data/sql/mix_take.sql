-- Put candidates into `chosen`, in one of their epochs. One row per sample. `condition` says which.
insert into chosen
select
    {source} as source,
    {epoch} as epoch,
    split,
    id_hash,
    {epoch_hash} as epoch_hash,
    {tokens} as num_tokens,
    num_units,
    num_bytes,
from {view}
where reason is null and {condition}
