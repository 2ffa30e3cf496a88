# Every target does the set-up it needs; `make demo` and `make test` are all a newcomer types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One more than the two cores of a small machine: many tests wait for processes of their own.
TEST_WORKERS ?= 3

.PHONY: setup check test demo bench docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[train,dev]'
	touch $(STAMP)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: setup
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

demo: setup
	$(BIN)/python benchmarks/demo.py

bench: setup
	set -e; for script in benchmarks/bench_*.py; do $(BIN)/python $$script; done

docs: setup
	$(BIN)/python docs/authoring/make_cli_page.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
