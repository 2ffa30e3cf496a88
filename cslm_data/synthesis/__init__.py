"""Text → speech through a table of backends, for data that has no speech yet."""
