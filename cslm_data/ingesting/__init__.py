"""Steps of ingest: rows of a source → temporary tables → checks → the catalog's tables."""
