"""Shards → packs → batches."""
