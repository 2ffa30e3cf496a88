"""Architectures, weights from elsewhere and from runs, and what is put around them."""
