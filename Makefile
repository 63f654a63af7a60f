# Two commands on a fresh machine: `make demo` and `make test`. Both build .venv with the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help install install-gpu demo test gpu-test scale chaos check docs clean

help:
	@echo "make demo    draw two camera networks, adapt a model from one to the other, write runs/demo/report.html"
	@echo "make test    all tests"
	@echo "make install-gpu    what makes labels on an NVIDIA GPU (5 GB more), into .venv"
	@echo "make gpu-test  for a machine with GPUs: all that can be shown there, and a page with the figures, runs/gpu-test.md"
	@echo "make scale   a round at MSMT17's size on drawn people (126,441 images), and a page with each stage's time and memory"
	@echo "make chaos   kills parts of a run at random, 20 times (DISTREID_CHAOS=n for another number)"
	@echo "make check   ruff and mypy"
	@echo "make docs    write the generated pages and jobs/schema.json anew, and the documentation as a site, build/site/index.html"

install: $(STAMP)

# `.[dev]` brings faiss-cpu back, over the files of faiss-gpu: where that was installed, it is again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "distreid needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (torch is several GB; a few minutes, once)"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
	@if [ -z "$(filter install-gpu,$(MAKECMDGOALS))" ] && $(BIN)/python -m pip show --quiet faiss-gpu 2>/dev/null; then \
		$(MAKE) --no-print-directory install-gpu || { rm $@; exit 1; }; \
	fi

# faiss-gpu takes the place of faiss-cpu, whose files have the same names: both go before one comes, also when this is done again.
install-gpu: $(STAMP)
	@echo "Installing CuPy, cuML and faiss-gpu into .venv (some minutes)"
	@$(BIN)/python -m pip uninstall --quiet --disable-pip-version-check --yes faiss-cpu faiss-gpu
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[gpu]'
	@$(BIN)/python -m pip check
	@echo "On the machine with the GPU: $(BIN)/distreid gpu-check"

demo: $(STAMP)
	$(BIN)/distreid demo

test: $(STAMP)
	$(BIN)/python -m pytest

gpu-test: $(STAMP)
	$(BIN)/python jobs/gpu_test.py

scale: $(STAMP)
	$(BIN)/python jobs/scale/run.py

chaos: $(STAMP)
	$(BIN)/python -m pytest -n 0 -m chaos tests/cluster

check: $(STAMP)
	$(BIN)/ruff check distreid tests jobs examples docs
	$(BIN)/ruff format --check distreid tests jobs examples docs
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf .venv runs
