# make demo       what Heimdex does, on real files          make demo ARGS="--all /some/folder"
# make test       the whole suite                           make test ARGS="-k claim" N=0
# make check      format, lint, types, import rules, fast tests
# make setup      only the environment in .venv             make setup PYTHON=python3.12
# make mutants    plants known bugs, one at a time, and names what catches each; ARGS="fence" or "--tool simulator"
# make simulate   the whole service under faults in simulated time   make simulate SEEDS=20000, make simulate SEED=17
# make verify-million  `heimdex verify` on a million events, SQLite and PostgreSQL; ARGS="--events 100000" for fewer
# make poison     jobs that kill their process: only they are buried        make poison STORE=sqlite ARGS="--json"
# make recovery   100 times kill -9: how long until a job goes on           make recovery ARGS="--kills 10"
# make restarts   200 workers stopped and replaced while jobs keep coming   make restarts ARGS=--help
# make renewals   100,000 leases renewed while functions keep the interpreter lock; PostgreSQL only
# make sweep      every fault at every call of a port, in every use case   make sweep PAIRS=1, make sweep CASE=claim
# make bench      Heimdex beside its peers, about 50 minutes   make bench ARGS="--quick", ARGS="--resume" goes on
# make bench-page  docs/benchmarks.md, from the peers' descriptions and the results that are kept
# make idempotency  64 threads create with the same keys on every store: one job for each key
# make lock       requirements.txt anew, keeping the versions in it; make lock ARGS=--upgrade takes the newest
# make clean      remove .venv and what tools left behind

PYTHON ?= python3
VENV ?= .venv
# Test processes; 0 runs the tests in the first one, as a debugger needs.
N ?= 2
ARGS ?=
# What a trial runs on: postgres or sqlite.
STORE ?= postgres

BIN := $(VENV)/bin
PACKAGES := $(VENV)/packages
READY := $(VENV)/ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test check bench bench-page mutants idempotency simulate sweep poison recovery restarts renewals verify-million lock clean
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
	PYTHONPATH=. $(BIN)/python -m tests.mutants.plant $(ARGS)

bench: $(READY)
	PYTHONPATH=. $(BIN)/python -m bench.run $(ARGS)

bench-page: $(READY)
	PYTHONPATH=. $(BIN)/python -m bench.run --page docs/benchmarks.md

idempotency: $(READY)
	PYTHONPATH=. $(BIN)/python bench/idempotent_create.py

simulate: $(READY)
	PYTHONPATH=. $(BIN)/python -m tests.simulation.simulate $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),500)) $(ARGS)

verify-million: $(READY)
	PYTHONPATH=. $(BIN)/python bench/verify_a_million.py $(ARGS)

# Each starts worker processes on a database of its own, ends in bounded time and exits 1 when a promise is broken.
poison recovery restarts renewals: $(READY)
	$(BIN)/python -m tests.trials.$@ --store $(STORE) $(ARGS)

sweep: $(READY)
	PYTHONPATH=. $(BIN)/python -m tests.simulation.sweep $(if $(PAIRS),--pairs) $(if $(CASE),--case "$(CASE)") \
	  $(if $(FAULTS),--faults "$(FAULTS)") $(ARGS)

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet 'uv<1'
	build/lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --all-extras --group dev --output-file requirements.txt $(ARGS) pyproject.toml

clean:
	rm -rf $(VENV) build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
