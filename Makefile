# `make demo` and `make test` need nothing but Python 3.11+ and a network; both work in .venv.
PYTHON ?= python3
BIN := .venv/bin
# torch (tests only) comes as its CPU build: the one PyPI holds for Linux brings gigabytes of CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/fusioncam demo

test: .venv/installed-dev
	$(BIN)/pytest

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --extra-index-url $(TORCH_INDEX) torch==2.13.0
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist demo-output
