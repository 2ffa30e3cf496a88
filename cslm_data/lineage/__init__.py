"""One row, from the line of its source to its bytes in a shard and the steps that read it."""
