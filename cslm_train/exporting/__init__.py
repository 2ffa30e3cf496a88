"""The parts of `export.py`: tokenizer, chat template, weights, configuration, model card."""
