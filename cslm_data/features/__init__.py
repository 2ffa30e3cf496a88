"""Feature extractors: waveform (T,) at 16 kHz → features (N, D) at a frame rate."""
