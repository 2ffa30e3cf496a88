"""Shards → packs → fairseq2 trainer → generation, evaluation. Imports cslm_data, never back."""

import os

import soundfile  # noqa: F401 - its wheel carries the libsndfile that fairseq2 needs loaded

# Before torch loads OpenMP: waiting threads sleep. Spinning ones make a training ten times slower
# whenever anything else runs on its cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
