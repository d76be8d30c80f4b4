# Two commands matter: make demo, make test. Both fetch what they need first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test rust lint types contracts unit hil-short hil days format lock wheels clean

SECONDS ?= 0
SEED ?= 1
DAYS ?= 30
PYTHON ?= python3
JOBS ?= $(shell nproc)
BIN := .venv/bin

help:
	@echo 'make demo              play a whole site, live, into a database (Ctrl-C ends it; SECONDS=60 by itself)'
	@echo 'make test              everything that must hold, under 10 minutes'
	@echo
	@echo 'make rust lint types contracts unit hil-short    the parts of make test'
	@echo 'make hil               the whole bench, long scenarios included'
	@echo 'make days              30 simulated days with faults, in under a minute (SEED=1 DAYS=30)'
	@echo 'make format            put Python and Rust into the house form'
	@echo 'make lock              resolve the Python dependencies anew into requirements.lock'
	@echo 'make wheels            build both distributions into dist/'
	@echo 'make clean             remove what was built'

setup:
	@PYTHON=$(PYTHON) tools/bootstrap.sh

demo: setup
	@$(BIN)/python -m hil_tests.demo --seconds $(SECONDS)

test: lint types contracts rust unit hil-short

rust: setup
	tools/check-rust.sh

lint: setup
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .

types: setup
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest edgeagg._core

contracts: setup
	$(BIN)/lint-imports

unit: setup
	$(BIN)/pytest -q -n $(JOBS) python/tests agent/tests deploy

hil-short: setup
	$(BIN)/pytest -q -n $(JOBS) -m 'not long' hil_tests

hil: setup
	$(BIN)/pytest -q -n $(JOBS) hil_tests

# the agent's and the receiver's logic through simulated days with faults, from a seed
days: setup
	@$(BIN)/python -m hil_tests.virtual --seed $(SEED) --days $(DAYS)

format: setup
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .
	. tools/rust-env.sh && cargo fmt --manifest-path aggregator-rs/Cargo.toml

lock: setup
	tools/lock.sh

wheels: setup
	rm -rf dist
	$${UV:-$$(command -v uv || echo .tools/bin/uv)} build --wheel --no-build-isolation --python $(BIN)/python --out-dir dist .
	$${UV:-$$(command -v uv || echo .tools/bin/uv)} build --wheel --no-build-isolation --python $(BIN)/python --out-dir dist agent

clean:
	rm -rf .venv .tools .demo dist aggregator-rs/target python/edgeagg/_core*.so
