"""Frames → centroids → the nearest centroid: arrays in, arrays out."""
