"""The parts of evaluation: what is predicted, and how it is scored."""
