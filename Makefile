# Every target sets up what it needs, once: `make figures` and `make test` work in a bare clone on a
# machine with Python 3.11 or newer and git.

PYTHON  ?= python3
PROFILE ?= cpu
VENV    := .venv
BIN     := $(VENV)/bin
RUN     := $(VENV)/.installed
DEV     := $(VENV)/.installed-dev

.PHONY: figures test lint lab bench pretrained clean
.DEFAULT_GOAL := figures

figures: $(RUN)
	$(BIN)/gan-lib run --profile $(PROFILE)

test: lint
	$(BIN)/python -m pytest

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(RUN)
	$(BIN)/gan-lib lab

bench: $(DEV)
	$(BIN)/python -m pytest tests/benchmarks --override-ini addopts=

# The explainers in data/pretrained, from the notebooks that train them.
pretrained: $(RUN)
	$(BIN)/gan-lib run --only 02,03 --set pretrained_dir=../data/pretrained

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gan_lib needs Python 3.11 or newer; choose one with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than pyproject.toml once it is installed, so that nothing is installed twice.
$(RUN): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(DEV): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(RUN) $@

clean:
	rm -rf $(VENV) data/artifacts data/runs
