"""Catalog → speech tokenizers: fitted, kept in folders, exchanged with other programs."""
