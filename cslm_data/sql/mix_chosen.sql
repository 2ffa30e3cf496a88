-- The samples that a mix holds, in no order. One row per sample.
create or replace temp table chosen (
    source usmallint,
    epoch usmallint,
    split utinyint,
    id_hash ubigint,
    epoch_hash ubigint,
    num_tokens uinteger,
    num_units uinteger,
    num_bytes ubigint,
)
