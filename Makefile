# Two commands matter: make demo, make test. Both fetch what they need first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test rust lint types contracts unit hil-short hil days deliver badline soak faults forgeries aarch64 bench format lock wheels clean

SECONDS ?= 0
SEED ?= 1
DAYS ?= 30
CUTS ?= 200
KILLS ?= 10000
MINUTES ?= 60
PYTHON ?= python3
JOBS ?= $(shell nproc)
BIN := .venv/bin

help:
	@echo 'make demo              play a whole site, live, into a database (Ctrl-C ends it; SECONDS=60 by itself)'
	@echo 'make test              everything that must hold, under 10 minutes'
	@echo
	@echo 'make rust lint types contracts unit hil-short    the parts of make test'
	@echo 'make hil               the whole bench, long scenarios included'
	@echo 'make soak              10,000 kills of agents, brokers and receivers, under an hour: 0 lost (KILLS=10000 SEED=1)'
	@echo 'make model             the transfer as a SPIN model, all states; 16 broken rules must be caught'
	@echo 'make powercut          200 power cuts of real disks, as root: 0 acknowledged rows lost (CUTS=200 SEED=1)'
	@echo 'make full-disk         three gateways whose disks are full for an hour, as root: every drop declared (MINUTES=60)'
	@echo 'make days              30 simulated days with faults, in under a minute (SEED=1 DAYS=30)'
	@echo 'make deliver           drain, a bad line and a herd of gateways in virtual time, as figures'
	@echo 'make faults            a million injured transactions on a line in virtual time: 0 wrong values'
	@echo 'make badline           30 % of packets lost, 1 s and 2 s each way, over a real TCP, as root, for half an hour'
	@echo 'make forgeries         100,000 forged, changed, replayed and stolen messages: none gets in'
	@echo 'make aarch64           the crate as aarch64 under QEMU: golden files give the same bytes'
	@echo 'make bench             bus, CPU, bytes and windows beside peers, as ratios'
	@echo 'make format            put Python and Rust into the house form'
	@echo 'make lock              resolve the Python dependencies anew into requirements.lock'
	@echo 'make wheels            build the distributions into dist/: edgeagg, edgeagg-agent, edgeagg-sim'
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
	$(BIN)/python tools/make_meters_doc.py --check

types: setup
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest edgeagg._core

contracts: setup
	$(BIN)/lint-imports

unit: setup
	$(BIN)/pytest -q -n $(JOBS) python/tests agent/tests deploy

hil-short: setup
	$(BIN)/pytest -q -n $(JOBS) -m 'not long' hil_tests

# the long scenarios mostly wait: twice as many of them as there are cores
hil: setup
	$(BIN)/pytest -q -n $(JOBS) -m 'not long' hil_tests
	$(BIN)/pytest -q -n $$((2 * $(JOBS))) --dist worksteal -m long hil_tests
	@$(BIN)/python -m hil_tests.chaos --kills 500 --seed $(SEED)

# docs/model-and-power-cuts.md says what is struck and judged; the broker is mosquitto
soak: setup
	@$(BIN)/python -m hil_tests.chaos --kills $(KILLS) --seed $(SEED)

# docs/model-and-power-cuts.md says what these two prove, and what they need
.PHONY: model powercut
model: setup
	@$(BIN)/python -m hil_tests.model

powercut: setup
	@$(BIN)/python -m hil_tests.powercut --cuts $(CUTS) --seed $(SEED)

# real processes on disks of a fixed size; the platform here, away, and somebody who takes all room
.PHONY: full-disk
full-disk: setup
	@$(BIN)/python -m hil_tests.full_disk --minutes $(MINUTES)

# the agent's and the receiver's logic through simulated days with faults, from a seed
days: setup
	@$(BIN)/python -m hil_tests.virtual --seed $(SEED) --days $(DAYS)

# the agent's own sender over a modelled line
deliver: setup
	@$(BIN)/python -m hil_tests.virtual.delivering

# a line in virtual time whose replies are injured in every known way: 0 wrong values
faults: setup
	@$(BIN)/python -m hil_tests.virtual.wire --transactions 1000000 --seed $(SEED)

# the gateway's processor, emulated; needs a cross linker and qemu-user, and says so
aarch64: setup
	tools/check-aarch64.sh

# two network namespaces and the kernel between them; both latencies at the same time
badline: setup
	@$(BIN)/python -m hil_tests.badline

# messages that somebody without the gateway's key can make, against a real inbox
forgeries: setup
	@$(BIN)/python -m hil_tests.forgeries --seed $(SEED)

# ratios beside peers and physical bounds; some ten minutes on a machine that does nothing else
bench: setup
	@$(BIN)/python -m hil_tests.speed bus
	@$(BIN)/python -m hil_tests.speed cpu
	@$(BIN)/python -m hil_tests.speed.codec
	@$(BIN)/python -m hil_tests.speed.windows
	@$(BIN)/python -m hil_tests.speed.journal
	@$(BIN)/python -m hil_tests.speed.history

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
	$${UV:-$$(command -v uv || echo .tools/bin/uv)} build --wheel --no-build-isolation --python $(BIN)/python --out-dir dist hil_tests

clean:
	rm -rf .venv .tools .demo dist aggregator-rs/target python/edgeagg/_core*.so
