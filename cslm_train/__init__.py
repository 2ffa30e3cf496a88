"""Shards → packs → fairseq2 trainer → generation, evaluation. Imports cslm_data, never back."""

import soundfile  # noqa: F401 - its wheel carries the libsndfile that fairseq2 needs loaded
