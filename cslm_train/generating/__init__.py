"""The parts of generation: what is asked, what an answer may look like, and its tokens."""
