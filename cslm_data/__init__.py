"""Raw speech, text and translations → units, audited mixes and shards. Never imports fairseq2."""
