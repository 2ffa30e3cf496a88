"""Engines run the planned parts of a job: here, or elsewhere."""
