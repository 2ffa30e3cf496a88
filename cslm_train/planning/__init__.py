"""The arithmetic of a run before any GPU is used: parameters, memory, steps, FLOPs, disk."""
