"""What recordings are like: level, clipping, silence, noise, bandwidth, a hash of the samples."""
