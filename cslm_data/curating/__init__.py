"""Rows of the catalog out of the way, with a reason, and back."""
