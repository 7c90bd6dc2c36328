# What one does with this repository. Needs Python 3.11 or later with venv, and make; everything else comes from the lock.

PYTHON ?= python3
UV ?= 0.13.9
# Passed on to `crm-api serve`, e.g. `make run ARGS="--port 9000 --workers 2"`; to pytest by `make test PYTEST="-k cli"`.
# LAWS=all asks every law of every resource, not only of some that have all between them.
ARGS ?=
PYTEST ?=
LAWS ?= some
export CRM_LOG_FORMAT ?= text
# Dozens of processes of a test run read the same modules: compiled by the first, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
READY := .venv/ready
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --annotation-style line

.PHONY: help install run test test-all check check-format check-types check-openapi bench bench-events bench-imports bench-search bench-pipeline bench-history bench-full soak lint format lock openapi contract contract-tools clean
.DEFAULT_GOAL := help

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

# Hashed packages first, nothing else is trusted. Then the project itself, editable: its build backend is in the lock too,
# so nothing is fetched for it. The stamp makes the next run immediate, until the lock or the project's metadata change.
$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing packages into .venv"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

install: $(READY) ## Create .venv from the lock; the other targets do it by themselves

run: $(READY) ## Serve with demo data on http://127.0.0.1:8000, over an embedded PostgreSQL in .data
	@exec $(BIN)/crm-api serve --demo $(ARGS)

test: $(READY) ## Lint, types, contract, then all tests but the longest
	@$(MAKE) --no-print-directory -j2 --output-sync=target check
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not full and not clients$(if $(filter all,$(LAWS)),, and not broad)" $(PYTEST)

test-all: $(READY) ## The same with the longest tests
	@$(MAKE) --no-print-directory -j2 --output-sync=target check
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not clients" $(PYTEST)

soak: $(READY) ## Mirror a tenant while everything fails, for minutes; ARGS="--writes 10000 --seconds 1800"
	@$(BIN)/python -W ignore -m tests.faults.soak $(ARGS)

check: lint check-format check-types check-openapi

lint: $(READY) ## Ruff's rules
	@$(BIN)/ruff check --quiet .

check-format: $(READY)
	@$(BIN)/ruff format --check --quiet . || { echo "run make format"; exit 1; }

check-types: $(READY)
	@$(BIN)/mypy --no-error-summary

check-openapi: $(READY)
	@$(BIN)/crm-api openapi --check

format: $(READY) ## Format the code
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

openapi: $(READY) ## Write openapi/openapi.json and openapi/asyncapi.json from the declarations
	@$(BIN)/crm-api openapi

contract: contract-tools ## Check the contract: no drift, valid OpenAPI, other people's tools, its tests against a running server
	@$(BIN)/python -m pytest -n auto --dist worksteal tests/contract $(PYTEST)

contract-tools: $(READY) ## The part of it that make test leaves out: linters, and generated clients against a running server; needs npm
	@$(BIN)/crm-api openapi --check
	@$(BIN)/openapi-spec-validator openapi/openapi.json
	@$(MAKE) --no-print-directory -C tools/contract -j2 --output-sync=target PYTHON=$(PYTHON)
	@$(BIN)/python -m pytest -n 2 -m clients tests/clients

bench: $(READY) ## Benchmarks, the short form
	@$(BIN)/python -m benchmarks $(ARGS)

bench-events: $(READY) ## Benchmarks of the change feed and webhooks
	@$(BIN)/python -m benchmarks.events $(ARGS)

bench-imports: $(READY) ## Benchmarks of imports and exports; ARGS="--rows 1000000 --export"
	@$(BIN)/python -m benchmarks.imports $(ARGS)

bench-search: $(READY) ## Benchmarks of the search across resources
	@$(BIN)/python -m benchmarks.search $(ARGS)

bench-pipeline: $(READY) ## Benchmarks of sums over a million opportunities and of forecasts
	@$(BIN)/python -m benchmarks.pipeline $(ARGS)

bench-history: $(READY) ## Benchmarks of lists and sums as of an instant
	@$(BIN)/python -m benchmarks.history $(ARGS)

bench-full: $(READY) ## Benchmarks with a million rows, flatness and memory
	@$(BIN)/python -m benchmarks --full $(ARGS)

# Three locks: the image installs the first only; the last is of tools that want other versions. No header and no addresses: a lock says what, not where it was found.
lock: $(READY) ## Pin all packages anew, after a change in pyproject.toml
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv==$(UV)
	@$(COMPILE) pyproject.toml --output-file requirements.lock
	@$(COMPILE) pyproject.toml --all-extras --constraint requirements.lock --output-file requirements-dev.lock
	@cd tools/contract && ../../$(COMPILE) requirements.in --output-file requirements.lock
	@touch $(READY)

clean: ## Remove what was installed and cached; the data in .data stays
	@rm -rf .venv tools/contract/.venv tools/contract/node_modules tools/contract/build .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
