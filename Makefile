# `make demo` and `make test` need nothing but Python 3.11+ and a network; both work in .venv.
PYTHON ?= python3
BIN := .venv/bin
# torch (tests and benchmarks only) comes as its CPU build: the one PyPI holds for Linux brings gigabytes of CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: demo test docs lint bench lowest clean links

demo: $(or $(wildcard .venv/installed-dev),.venv/installed)
	$(BIN)/fusioncam demo

# A process per core; the tests of a file stay together, for what they share.
test: .venv/installed-dev
	$(BIN)/pytest -n auto --dist loadfile

docs: .venv-docs/installed links
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

lint: .venv/installed-dev links
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy tests/typed_script.py
	$(BIN)/lint-imports --no-logo

# mypy and mkdocstrings read folders; where git makes text files of links, the links are made here.
links:
	for part in export kernels runtime; do [ -d fusioncam/$$part ] || ln -sf ../$$part fusioncam/$$part; done

# BENCH holds options of benchmarks/cpu.py, for instance BENCH=--quick.
bench: .venv-bench/installed
	.venv-bench/bin/python -W ignore benchmarks/cpu.py $(BENCH)

# The lowest versions that pyproject.toml allows: they install, `pip check` is clean, the demo runs; a minute.
lowest: .venv/installed-dev
	$(BIN)/python benchmarks/environments.py --only lowest --check

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[cpu]"
	touch $@

# The tests want onnxruntime-gpu, which would overwrite the files of the onnxruntime that `make demo` installed.
.venv/installed-dev: pyproject.toml
	$(PYTHON) -m venv .venv
	rm -f .venv/installed
	$(BIN)/pip uninstall -qq --yes onnxruntime
	$(BIN)/pip install --quiet --extra-index-url $(TORCH_INDEX) torch==2.13.0
	$(BIN)/pip install --quiet --editable ".[dev]"
	# Simulates Qualcomm's NPU. It wants onnxruntime, which onnxruntime-gpu stands for; tests skip where it is missing.
	-$(BIN)/pip install --quiet --no-deps "onnxruntime-qnn>=2.7,<3"
	touch $@

.venv-docs/installed: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --editable ".[cpu,docs]"
	touch $@

# A package that cannot be installed here does not take part; the benchmark says so.
.venv-bench/installed: pyproject.toml benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --extra-index-url $(TORCH_INDEX) torch==2.13.0
	.venv-bench/bin/pip install --quiet --editable ".[cpu]"
	-.venv-bench/bin/pip install --quiet --no-deps --extra-index-url $(TORCH_INDEX) torchvision==0.28.0
	-grep -v '^#' benchmarks/requirements.txt | xargs -n 1 .venv-bench/bin/pip install --quiet --no-deps
	touch $@

clean:
	rm -rf .venv .venv-docs .venv-bench build dist demo-output artifacts
