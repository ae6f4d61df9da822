# Every target works on a machine with Python 3.11 or newer, pip and make: what it needs goes into .venv.

.DEFAULT_GOAL := help
.PHONY: help demo test lint types imports docs docs-check cov bench kill-loop simulate proofs proofs-short disk-faults mutate soak check clean

# The first interpreter on the path that is new enough; `make PYTHON=python3.13 test` chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

help: ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.demo ## Set everything up and walk the standard library of this Python.
	@$(BIN)/python examples/library_census.py

test: $(VENV)/.dev ## Set everything up and run the whole test suite.
	@$(BIN)/python -m pytest -n 4 $(ARGS)

lint: $(VENV)/.dev ## Style: ruff check and format, and whether docs/reference says what the docstrings say.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python docs/build_reference.py --check

types: $(VENV)/.dev ## Types: pyright (strict) on the source, pyright and mypy on what users see.
	@$(BIN)/pyright src
	@if ls tests/typing/*.py >/dev/null 2>&1; then $(BIN)/pyright tests/typing && $(BIN)/mypy tests/typing; fi

imports: $(VENV)/.dev ## Import contracts: which module may know which.
	@$(BIN)/lint-imports --no-logo

cov: $(VENV)/.dev ## Line and branch coverage, at least 95 %.
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m pytest -n 2 -q --cov --cov-report=term $(ARGS)

bench: $(VENV)/.dev ## Print every measure beside its floor and its target.
	@$(BIN)/python -m benchmarks $(ARGS)

kill-loop: $(VENV)/.dev ## Kill processes at N moments each (N=1000 SEED=… FIRST=… KIND=…) and compare what is left.
	@$(BIN)/python tests/kill_loop.py -n $(or $(N),1000) --first $(or $(FIRST),0) $(if $(SEED),--seed $(SEED)) \
		$(if $(KIND),--kind $(KIND))

proofs: $(VENV)/.dev ## The long forms of the tests that prove the engine; the suite takes some steps of each.
	@CALLSHEET_PROOFS=1 $(BIN)/python -m pytest -n 2 -q --timeout 3600 tests/proofs $(ARGS)

proofs-short: $(VENV)/.dev ## The CI form of every long proof, in about four minutes, a line each (PARTS="kill soak").
	@$(BIN)/python tests/proofs_short.py $(PARTS)

disk-faults: $(VENV)/.dev ## Run flows on a disk that fails, N times (N=1000 SEED=… FIRST=…), and compare what is left.
	@$(BIN)/python tests/disk_faults.py -n $(or $(N),1000) --first $(or $(FIRST),0) $(if $(SEED),--seed $(SEED))

mutate: $(VENV)/.dev ## Change the rules in every small way, and tell which changes no test notices (MODULES="guards table").
	@$(BIN)/python tests/mutate_rules.py $(MODULES)

soak: $(VENV)/.dev ## Eight processes on one history for an hour (SECONDS=…), then a million task runs (RUNS=…).
	@$(BIN)/python tests/soak.py --seconds $(or $(SECONDS),3600) --runs $(or $(RUNS),1000000)

simulate: $(VENV)/.dev ## Simulate every scenario with N seeds from SEED on (N=1000 SEED=0 SCENARIO=simulations:orders).
	@cd tests && ../$(BIN)/python -m callsheet.testing $(or $(SCENARIO),simulations) -n $(or $(N),1000) --seed $(or $(SEED),0)

docs: $(VENV)/.dev ## Write docs/reference from the docstrings.
	@$(BIN)/python docs/build_reference.py

docs-check: $(VENV)/.dev ## Run every example of the docs and docstrings, follow every link.
	@$(BIN)/python -m pytest -q -p no:randomly tests/test_docs.py

check: lint types imports proofs-short test ## All that a change must pass.

clean: ## Remove what these targets made.
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*

# Without the ensurepip package (Debian splits it off) the environment takes its pip from the interpreter's own.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Callsheet needs Python 3.11 or newer; none was found on the path." >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV) \
		&& $(PYTHON) -m pip --disable-pip-version-check --python $(VENV) install -q pip; }
	@$(PIP) install -q --upgrade 'pip>=25.1'

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@$(PIP) install -q -e '.[rich]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@$(PIP) install -q -e '.[all]' --group dev
	@touch $@ $(VENV)/.demo
