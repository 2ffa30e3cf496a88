"""The parts that a training run is put together from."""
