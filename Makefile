# Every target sets up what it needs, once: `make figures` and `make test` work in a bare clone on a
# machine with Python 3.11 or newer and git.

PYTHON  ?= python3
PROFILE ?= cpu
VENV    := .venv
BIN     := $(VENV)/bin
RUN     := $(VENV)/.installed
DEV     := $(VENV)/.installed-dev
DOCS    := $(VENV)/.installed-docs

.PHONY: figures test lint lab docs bench beside drill browser pretrained clean
.DEFAULT_GOAL := figures

figures: $(RUN)
	$(BIN)/gan-lib run --profile $(PROFILE)

# Two processes, each with whole files: one of them begins with the notebooks, which take longest
# (tests/conftest.py).
test: lint browser
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder tests

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(RUN)
	$(BIN)/gan-lib lab

# The site, data/site/index.html: with the notebooks as `make figures` executed them last, else with the
# committed figures. What it warns of is an error.
docs: $(DOCS)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d data/site.doctrees notebooks data/site

bench: $(DEV)
	$(BIN)/python -m pytest tests/benchmarks --override-ini addopts=

beside: $(DEV)
	$(BIN)/python tests/benchmarks/beside.py

# Kills at random moments, races, load, huge pictures: what takes minutes. Its short form is in `make test`.
drill: $(DEV)
	$(BIN)/python -m pytest --override-ini python_files="test_*.py long_*.py" -rP \
	  --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/drill

# Chromium for tests/browser: the system's, else Debian's package, else Playwright's own.
browser: $(DEV)
	@for name in chromium chromium-browser google-chrome; do \
	  command -v $$name > /dev/null && exit 0; done; \
	if command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends chromium && exit 0; fi; \
	$(BIN)/python -m playwright install chromium

# The explainers in data/pretrained, from the notebooks that train them.
pretrained: $(RUN)
	$(BIN)/gan-lib run --only 02,03
	$(BIN)/gan-lib ship
	$(BIN)/gan-lib ship --sweep universal

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gan_lib needs Python 3.11 or newer; choose one with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than pyproject.toml once it is installed, so that nothing is installed twice.
$(RUN): pyproject.toml | $(VENV)/bin/python
	$(call install,.)
	@touch $@

$(DEV): pyproject.toml | $(VENV)/bin/python
	$(call install,.[dev])
	@touch $(RUN) $@

$(DOCS): pyproject.toml | $(VENV)/bin/python
	$(call install,.[docs])
	@touch $(RUN) $@

# pip would compile on one processor; some packages hold files that no Python compiles.
define install
$(BIN)/python -m pip install --quiet --no-compile --editable '$(1)'
$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
endef

clean:
	rm -rf $(VENV) data/artifacts data/runs data/site data/site.doctrees
