# Every command of the project. `make help` lists them.

PYTHON ?=
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
SUITES := $(wildcard shared/tests services/*/tests cli/tests client/tests tests)
DISTRIBUTIONS := $(wildcard */pyproject.toml services/*/pyproject.toml)

# Overridable: PYTEST_ARGS='-k lease -x', JOBS=1.
JOBS ?= 2
PYTEST_ARGS ?=
CHOSEN := not chaos and not thorough

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

##@ Run

.PHONY: demo
demo: setup  ## run the incident pipeline on this machine's live metrics, then stop
	@$(BIN)/waybill demo

.PHONY: up
up: setup  ## start the stack with the dashboard, until Ctrl-C
	@$(BIN)/waybill up

##@ Test

# A file stays on one worker: what a module starts, it starts once.
.PHONY: test
test: setup  ## every test that needs no container engine, browser or foreign toolchain
	$(PYTEST) -n $(JOBS) --dist loadfile -m "$(CHOSEN)" $(PYTEST_ARGS) $(SUITES)

.PHONY: test-all
test-all: export WAYBILL_REQUIRE_ALL = 1
test-all: CHOSEN = not chaos
test-all: test  ## the same and what is thorough; missing infrastructure is a failure

# The experiments of a file in one pool run one after another, in the arena that their process has for the pool.
.PHONY: chaos
chaos: setup  ## the long fault-injection suite; WAYBILL_CHAOS_SEED=... repeats a run
	$(PYTEST) -n $(JOBS) --dist loadgroup --timeout 900 -m chaos $(PYTEST_ARGS) tests/chaos

.PHONY: chaos-stack
chaos-stack: setup  ## the long forms of rolling restarts, version skew, killed dashboards and a burst of work
	$(PYTEST) -n $(JOBS) --dist loadgroup --timeout 900 -m chaos $(PYTEST_ARGS) tests/dashboard tests/e2e

.PHONY: fuzz
fuzz: export WAYBILL_FUZZ_INPUTS ?= 100000
fuzz: setup  ## 100,000 requests that nobody should send, to every method; WAYBILL_FUZZ_SEED=... repeats a run
	$(PYTEST) -s $(PYTEST_ARGS) tests/security/test_fuzz.py

.PHONY: test-sentinel
test-sentinel: export WAYBILL_TEST_SENTINEL = 1
test-sentinel: setup  ## the e2e suite on a store behind Sentinels, with a failover in each test
	$(PYTEST) --timeout 300 $(PYTEST_ARGS) tests/e2e

.PHONY: bench
bench: setup  ## the benchmarks, each as a ratio against its baseline in the same run
	@test -f benchmarks/run.py || { echo "bench: benchmarks/run.py does not exist yet"; exit 1; }
	$(BIN)/python benchmarks/run.py

.PHONY: compose-test
compose-test: setup  ## build the images and run the incident pipeline on docker compose
	@test -f tests/deploy/compose_test.sh || { echo "compose-test: tests/deploy/compose_test.sh does not exist yet"; exit 1; }
	bash tests/deploy/compose_test.sh

##@ Check

# `make -k check` goes on after the first that fails.
CHECKS := check-format check-lint check-house check-proto check-imports check-types

.PHONY: check $(CHECKS)
check: $(CHECKS)  ## format, lint, types, import rules, proto lint and freshness

check-format: setup
	$(BIN)/ruff format --check

check-lint: setup
	$(BIN)/ruff check

check-house: setup
	$(BIN)/python tools/check_house.py

check-proto: setup
	$(BIN)/python proto/generate.py --check
	$(BIN)/python proto/check.py

check-imports: setup
	$(BIN)/lint-imports

check-types: setup
	$(BIN)/mypy

.PHONY: check-alone
check-alone: setup  ## install each service with its own dependencies and nothing else, and start its check
	@for service in $(notdir $(patsubst %/,%,$(wildcard services/*/))); do \
		$(BIN)/python tools/check_alone.py $$service || exit 1; \
	done

##@ Write

.PHONY: fmt
fmt: setup  ## format, and mend what the linter can mend
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

# TASK names its first task.
TASK ?= process_item
.PHONY: new-service
new-service: setup  ## make a service that works: NAME=orders TASK=place_order
	@$(BIN)/python tools/new_service.py "$(NAME)" "$(TASK)"

# SERVICE may also be archive or outbox, which all databases share.
.PHONY: migration
migration: setup  ## write the revision that a service's changed tables need: SERVICE=orders MESSAGE="..."
	@$(BIN)/python tools/new_revision.py "$(SERVICE)" "$(MESSAGE)"

.PHONY: proto
proto: setup  ## generate proto/gen from the contracts
	$(BIN)/python proto/generate.py

.PHONY: kubernetes
kubernetes: setup  ## render deploy/kubernetes from its template and each service's values
	$(BIN)/python tools/kubernetes.py

.PHONY: lock
lock: setup  ## compile requirements.lock again; LOCK_ARGS=--upgrade moves the pins
	$(BIN)/python tools/lock.py $(LOCK_ARGS)

##@ Release

# RELEASE_ARGS=--checked where CI has passed this very commit.
.PHONY: release
release: setup  ## check, build and tag one service alone: SERVICE=metrics VERSION=1.2.3
	@$(BIN)/python tools/release.py "$(SERVICE)" "$(VERSION)" $(RELEASE_ARGS)

##@ Set up

.PHONY: setup
setup: .venv/.setup  ## .venv with everything in it; PYTHON=python3.12 chooses the interpreter

.venv/.setup: requirements.lock tools/setup.sh $(DISTRIBUTIONS)
	@PYTHON="$(PYTHON)" tools/setup.sh

.PHONY: clean
clean:  ## remove .venv, the state directory and every cache
	rm -rf .venv .state dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## this list
	@awk 'BEGIN { FS = ":.*##" } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*##/ { printf "  %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)
