"""Shards → packs → fairseq2 trainer → generation, evaluation. Imports cslm_data, never the other way."""
