# make demo       what Heimdex does, on real files          make demo ARGS="--all /some/folder"
# make test       the whole suite                           make test ARGS="-k claim" N=0
# make check      format, lint, types, import rules, fast tests
# make setup      only the environment in .venv             make setup PYTHON=python3.12
# make mutants    plants known bugs, one at a time, and names the test that catches each; ARGS="fence" for some
# make bench      Heimdex beside its peers, about an hour   make bench ARGS="--quick"
# make lock       requirements.txt anew, keeping the versions in it; make lock ARGS=--upgrade takes the newest
# make clean      remove .venv and what tools left behind

PYTHON ?= python3
VENV ?= .venv
# Test processes; 0 runs the tests in the first one, as a debugger needs.
N ?= 2
ARGS ?=

BIN := $(VENV)/bin
PACKAGES := $(VENV)/packages
READY := $(VENV)/ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test check mutants bench lock clean
.DEFAULT_GOAL := setup

setup: $(READY)

$(READY): pyproject.toml $(PACKAGES)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Anew with each change of requirements.txt, so that nothing stays which that file no longer names.
$(PACKAGES): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Heimdex needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@# Without looking at dependencies: the file names all of them, and pip before 25 asks for `coverage[toml]` past its pin.
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.txt
	$(BIN)/python -m pip check
	@touch $@

demo: $(READY)
	$(BIN)/heimdex demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n $(N) --dist worksteal $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/domain tests/service_layer

mutants: $(READY)
	$(BIN)/python tests/mutants/plant.py $(ARGS)

bench: $(READY)
	PYTHONPATH=. $(BIN)/python -m bench.run $(ARGS)

idempotency: $(READY)
	PYTHONPATH=. $(BIN)/python bench/idempotent_create.py

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet 'uv<1'
	build/lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --all-extras --group dev --output-file requirements.txt $(ARGS) pyproject.toml

clean:
	rm -rf $(VENV) build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
