# `make train` and `make test` need Python 3.11, 3.12 or 3.13 and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MINIMUM := .venv-minimum
PLUGINS := -e "plugins/games[textarena,openspiel]" -e plugins/opponents -e plugins/advantages -e plugins/models
MANIFESTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)
# A file stays in one process, since its tests share what is slow to make.
TWO_PROCESSES := -n 2 --dist loadfile
export HF_HUB_OFFLINE := 1
export OMP_NUM_THREADS ?= 1

.PHONY: train setup test test-minimum slow conformance lint docs perf clean

train: setup  ## learn Kuhn poker by self-play, then say which report to open
	$(BIN)/spiral train

setup: $(VENV)/.ready  ## the virtual environment, with all five distributions and the development tools

# torch first and by itself: a resolver that meets it among others may pick a build with gigabytes of CUDA.
$(VENV)/.ready: $(MANIFESTS) constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt -e ".[dev]" $(PLUGINS)
	touch $@

test: setup  ## the default tests, on two cores
	$(BIN)/python -m pytest $(TWO_PROCESSES)

slow: setup  ## the tests that take longer than a minute each
	$(BIN)/python -m pytest -m slow

conformance: setup  ## the kit over everything installed: each plug-in, each listed game of OpenSpiel and TextArena
	$(BIN)/spiral check --all
	$(BIN)/python -m pytest -m slow -k conformance plugins/games/tests

# With Python 3.11: the lowest releases have no wheels for a newer one.
test-minimum: $(MINIMUM)/.ready  ## the default tests on the lowest releases that the distributions admit
	$(MINIMUM)/bin/python -m pytest $(TWO_PROCESSES)

$(MINIMUM)/.ready: $(MANIFESTS) constraints-minimum.txt
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python -m pip install --quiet --constraint constraints-minimum.txt torch
	$(MINIMUM)/bin/python -m pip install --quiet --constraint constraints-minimum.txt -e ".[test]" $(PLUGINS)
	touch $@

lint: setup  ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup  ## write the generated pages again and build the site, in which no link may be broken
	$(BIN)/python -m tools.generate
	$(BIN)/mkdocs build --strict

perf: setup  ## speed and memory as ratios, JSON lines
	$(BIN)/python -m perf

clean:  ## remove what make made; runs stay
	rm -rf $(VENV) $(MINIMUM) site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
