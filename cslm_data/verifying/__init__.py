"""Looking for damage in a mix, shard by shard; `cslm_data.verify` puts it together."""
