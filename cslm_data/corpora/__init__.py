"""Readers: one file per format, each a generator of records and nothing else."""
