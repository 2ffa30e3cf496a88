-- The samples of a mix: in which order, in which shard. One row per sample.
create or replace temp table plan (
    ordinal ubigint,
    split utinyint,
    position ubigint,
    source usmallint,
    epoch usmallint,
    id_hash ubigint,
    epoch_hash ubigint,
    order_hash ubigint,
    num_tokens uinteger,
    num_units uinteger,
    shard uinteger,
)
