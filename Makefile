# What a clone needs: make demo, make test.  `make help` tells the rest.
# The first Python that is new enough; `make PYTHON=...` names another one.
NEW    := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	    $$name -c '$(NEW)' 2>/dev/null && echo $$name && exit; done; echo python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
TESTS  ?= tests
# As many workers as processors; tests that share a mesh run in one worker.
SPREAD := --numprocesses=logical --dist=loadgroup
# Compiling every library ahead costs more than it saves: Python keeps what it compiled when it first ran.
unexport PYTHONDONTWRITEBYTECODE
NEWEST ?= .venv-newest
LOCK   := $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --group build pyproject.toml
PIP    := $(BIN)/python -m pip install -q --no-compile --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo example-ci up test test-slow test-newest soak lint format lock docs bench clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp ## start a mesh, run a real order on this machine, show its record, clean up
	@$(BIN)/muster demo

example-ci: $(VENV)/demo.stamp ## CI/CD by pooled runners: pushes to a GitLab, builds, artifacts, a heartbeat
	@$(BIN)/python -m examples.ci.run

up: $(VENV)/demo.stamp ## start a mesh that stays, for this machine (Ctrl-C ends it)
	@$(BIN)/muster up

test: $(VENV)/dev.stamp ## run every test but the slow ones (TESTS=tests/cli for some)
	@$(BIN)/python -m pytest $(SPREAD) -m "not slow" $(TESTS)

test-slow: $(VENV)/dev.stamp ## run the slow tests: kills, full disks, plug-ins, examples, every page, installing
	@$(BIN)/python -m pytest $(SPREAD) -m slow $(TESTS)

SOAK   ?= 600
soak: $(VENV)/dev.stamp ## kill everything at random while orders run (SOAK=600 seconds of it)
	@$(BIN)/python -m tests.chaos.driver --seconds $(SOAK)

lint: $(VENV)/dev.stamp ## style, types, import layers, limits
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p muster
	@$(BIN)/mypy tests bench examples
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest tests/test_limits.py

format: $(VENV)/dev.stamp ## put the code into its one form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Each file holds all that one set needs, with exact versions and hashes, for every Python and platform.
lock: $(VENV)/base.stamp ## renew requirements/*.txt: the newest versions that pyproject.toml allows
	@$(PIP) uv
	@$(LOCK) --extra bench -o requirements/bench.txt
	@$(LOCK) --extra dev -c requirements/bench.txt -o requirements/dev.txt
	@$(LOCK) --extra server -c requirements/bench.txt -o requirements/server.txt
	@$(LOCK) -c requirements/bench.txt -o requirements/agent.txt

test-newest: ## run every test with the newest versions that pyproject.toml allows (in an environment of its own)
	@$(PYTHON) -m venv --clear $(NEWEST)
	@$(NEWEST)/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]' 'hatchling' 'editables'
	@$(NEWEST)/bin/python -m pytest $(SPREAD) $(TESTS)

docs: $(VENV)/dev.stamp ## write the reference pages that are made of the code's tables
	@$(BIN)/python -m tests.docs.generated

bench: $(VENV)/bench.stamp ## measure beside floors, and write bench/RESULTS.md (BENCH="--only G1,G4")
	@$(BIN)/python -m bench $(BENCH)

clean: ## remove what was made: .venv, caches, build products
	rm -rf $(VENV) $(NEWEST) build dist bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is made anew when what is locked changes; each stamp is a set of it.
$(VENV)/base.stamp: pyproject.toml $(wildcard requirements/*.txt)
	@$(PYTHON) -c '$(NEW)' 2>/dev/null || { \
	  echo "Muster needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) (once, some 20 s) ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/demo.stamp: $(VENV)/base.stamp
	@echo "Installing muster and its libraries ..."
	@$(PIP) --require-hashes -r requirements/server.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/base.stamp
	@echo "Installing muster and its tools ..."
	@$(PIP) --require-hashes -r requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/demo.stamp

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@$(PIP) --require-hashes -r requirements/bench.txt
	@touch $@
