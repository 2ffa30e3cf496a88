"""units + phone times → how good a speech tokenizer is, as numbers and as a page.

`purity`, `usage`, `abx` and `robustness` are the metrics, on arrays; `report` asks them of a
workspace; `page` shows the answers.
"""
