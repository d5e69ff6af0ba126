# `make train` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PACKAGES := -e ".[dev]" -e "plugins/games[textarena,openspiel]" -e plugins/opponents -e plugins/advantages -e plugins/models
MANIFESTS := pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
export HF_HUB_OFFLINE := 1
export OMP_NUM_THREADS ?= 1

.PHONY: train setup test slow lint docs perf clean

train: setup  ## learn Kuhn poker by self-play, then say which report to open
	$(BIN)/spiral train

setup: $(VENV)/.ready  ## the virtual environment, with all five distributions and the development tools

# torch first and by itself: a resolver that meets it among others may pick a build with gigabytes of CUDA.
$(VENV)/.ready: $(MANIFESTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PACKAGES)
	touch $@

test: setup  ## the default tests, a few minutes
	$(BIN)/python -m pytest

slow: setup  ## the tests that take longer than a minute each
	$(BIN)/python -m pytest -m slow

lint: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## write the generated pages again
	$(BIN)/python -m tools.generate

perf: setup  ## speed and memory as ratios, JSON lines
	$(BIN)/python -m perf

clean:  ## remove what make made; runs stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
