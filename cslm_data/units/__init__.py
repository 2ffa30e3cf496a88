"""Recordings → units: the work of quantize, its files, and those of other toolkits."""
