# Entry points of the repository: every target makes its own virtual environment from constraints.txt.
# make demo | test | test-all | test-lowest | lint | docs | bench | bench-smoke | clean        VENV=folder and PYTHON=interpreter may be given

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	if $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
BIN := $(VENV)/bin
INPUTS := pyproject.toml constraints.txt
INSTALL = PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --constraint constraints.txt
# The committed symlink is checked out as a text file where git has core.symlinks=false: say so instead of failing oddly.
CHECK_LINK = test -d accel/kernels || { echo "accel/kernels must be a symbolic link to ../kernels: run git config core.symlinks true && git checkout accel/kernels" >&2; exit 1; }

.DEFAULT_GOAL := demo
.PHONY: demo test test-all test-lowest lint docs bench bench-smoke clean

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then echo "Cannot find Python 3.11 or newer with venv and pip; install one or run make PYTHON=/path/to/python" >&2; exit 1; fi
	@echo "Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-dev: $(INPUTS) | $(BIN)/python
	@$(CHECK_LINK)
	@echo "Installing accel with the tools for tests, lint and documentation"
	@$(INSTALL) --editable '.[dev,docs,report]'
	@touch $@ $(VENV)/.stamp-report

# The report extra brings Plotly, which draws the figures of the page that the demonstration ends with.
$(VENV)/.stamp-report: $(INPUTS) | $(BIN)/python
	@$(CHECK_LINK)
	@echo "Installing accel with the tools for reports"
	@$(INSTALL) --editable '.[report]'
	@touch $@

demo: $(VENV)/.stamp-report
	@$(BIN)/accel demo

test: $(VENV)/.stamp-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests

test-all: $(VENV)/.stamp-dev
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n 2 --dist loadgroup -m "nightly or not nightly" tests

# The lowest versions that pyproject.toml admits, in an environment of their own; they need Python 3.11 or 3.12.
LOWEST := .venv-lowest
LOWEST_PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	if $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' >/dev/null 2>&1; then echo $$p; break; fi; done)

$(LOWEST)/.stamp: pyproject.toml constraints-lowest.txt
	@$(CHECK_LINK)
	@if [ -z "$(LOWEST_PYTHON)" ]; then echo "Cannot find Python 3.11 or 3.12; install one or run make test-lowest LOWEST_PYTHON=/path/to/python" >&2; exit 1; fi
	@echo "Making $(LOWEST) with $(LOWEST_PYTHON) and the lowest versions"
	@$(LOWEST_PYTHON) -m venv $(LOWEST)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[dev,report]'
	@touch $@

test-lowest: $(LOWEST)/.stamp
	$(LOWEST)/bin/python -m pytest -n 2 --dist loadgroup tests

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check accel kernels tests benchmarks docs
	$(BIN)/ruff format --check accel kernels tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

docs: $(VENV)/.stamp-dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python -m pytest tests/test_docs.py

bench: $(VENV)/.stamp-dev
	@mkdir -p build
	$(BIN)/python -m pytest benchmarks --benchmark-json=build/bench.json

bench-smoke: $(VENV)/.stamp-dev
	@mkdir -p build
	ACCEL_BENCH=smoke $(BIN)/python -m pytest benchmarks -m "not slow and not nightly" --benchmark-json=build/bench-smoke.json \
		--benchmark-min-rounds=1 --benchmark-max-time=0.1 --benchmark-warmup=off

clean:
	rm -rf build dist docs/_build accel_codesign.egg-info .mypy_cache .ruff_cache .pytest_cache
