# The front door. `make help` lists the targets; what is too long for a recipe is in .ci/.
#
# Every target sets up what it needs (.ci/setup) and finds it done the next time, so there is no
# order to remember and `make run` or `make test` starts in seconds once built.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

REDIS_PORT ?= 6380
MEMCACHED_PORT ?= 11311
ADMIN_PORT ?= 9180
# Seconds of `make fuzz` for each target.
FUZZ_SECONDS ?= 60
# Schedules of `make chaos`, the minutes after which it begins no more, and the seed of the first (random).
SCHEDULES ?= 20
CHAOS_MINUTES ?= 60
SEED ?=
# What `make planted` hunts, and how.
PLANTED ?= --all
# 1 to run the programs of `make clients` against plain servers in the proxy's place.
PLAIN ?=
# Redis' source, for make redis-suite; and its units and options: SUITE="--layout 3x2 unit/type/list".
REDIS_SOURCE ?=
SUITE ?=
# Passed on to the runners: make test PYTEST="-k failover"; make bench BENCH="--rounds 5".
PYTEST ?=
MODEL ?=
BENCH ?=
RECOVERY ?=

# rustup's directory, for shells opened before its installation; /usr/sbin, where Debian puts nutcracker.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin

CRATE := proxy/engine
BIN := .venv/bin

.PHONY: help build run test clients redis-suite chaos planted model lint fmt bench counts recovery fuzz dist lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "Ports of make run: REDIS_PORT=$(REDIS_PORT) MEMCACHED_PORT=$(MEMCACHED_PORT) ADMIN_PORT=$(ADMIN_PORT)"

build: ## the engine in release mode and the shardproxy command, in .venv
	@.ci/setup engine

run: ## a proxy in front of private backends; Ctrl-C ends both
	@.ci/setup cargo backends engine
	@exec $(BIN)/shardproxy demo --redis-port $(REDIS_PORT) --memcached-port $(MEMCACHED_PORT) --admin-port $(ADMIN_PORT)

test: ## Rust and Python tests, against real servers
	@.ci/setup cargo backends nutcracker engine valgrind
	cd $(CRATE) && cargo test --locked --quiet
	cd $(CRATE) && cargo build --locked --quiet --profile counted --bin replay
	$(BIN)/python bench/instructions.py
	@# Two processes: on the smallest machines the tests mostly wait for servers, more only adds noise.
	$(BIN)/pytest -n 2 $(PYTEST)

clients: ## real client libraries of many languages, where their tools are here (PYTEST="-k ioredis")
	@.ci/setup cargo backends engine
	@.ci/clients
	SHARDPROXY_TEST_CLIENTS=all SHARDPROXY_TEST_CLIENTS_PLAIN=$(PLAIN) $(BIN)/pytest -n 2 tests/clients $(PYTEST)

redis-suite: ## Redis' own tests against the proxy (REDIS_SOURCE=/path/to/redis, which it says how to get)
	@.ci/setup cargo backends engine
	@REDIS_SOURCE='$(REDIS_SOURCE)' $(BIN)/python tests/redis_suite/run.py $(SUITE)

chaos: ## random faults under load, and a check of every answer (SCHEDULES=100, SEED=17)
	@.ci/setup cargo backends engine
	$(BIN)/python tests/chaos/run.py --schedules $(SCHEDULES) --minutes $(CHAOS_MINUTES) $(if $(SEED),--first $(SEED))

planted: ## faults planted in copies of the source, each of which chaos must notice (PLANTED="NAME", "--list")
	@.ci/setup cargo backends engine
	$(BIN)/python tests/chaos/planted/plant.py $(PLANTED)

model: ## every order of events in the view protocol, searched (MODEL=quick, or a word in a name)
	@.ci/setup cargo
	cd tests/model && cargo run --locked --release --quiet -- $(MODEL)

lint: ## formatters, linters, types, the stub against the built module
	@.ci/setup engine
	@.ci/lint

fmt: ## format everything, and mend what the linter can
	@.ci/setup cargo venv
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .
	cd $(CRATE) && cargo fmt
	cd tests/model && cargo fmt

bench: ## this proxy, other relays and no relay in turn; ratios, targets, bench/results/ (BENCH="--all", "--help")
	@.ci/setup cargo backends nutcracker engine charts
	cd $(CRATE) && cargo build --locked --release --quiet --bin loadgen
	$(BIN)/python bench/run.py $(BENCH)

counts: ## the table of instructions per request, against which make test compares, made anew
	@.ci/setup cargo venv valgrind
	cd $(CRATE) && cargo build --locked --quiet --profile counted --bin replay
	$(BIN)/python bench/instructions.py --renew

recovery: ## what a lost backend costs, and how fast 1 GiB is back (RECOVERY="--mebibytes 200")
	@.ci/setup cargo backends engine
	cd $(CRATE) && cargo build --locked --release --quiet --bin loadgen
	$(BIN)/python bench/recovery.py $(RECOVERY)

fuzz: ## a minute of fuzzing of each parser (needs a nightly Rust and cargo-fuzz)
	@.ci/setup cargo
	@.ci/fuzz $(FUZZ_SECONDS)

dist: ## wheel and sdist in dist/, with checks of what is in them
	@.ci/setup cargo venv
	@.ci/dist

lock: ## refresh the locked versions of dependencies (UPGRADE=1: to the newest that fit)
	@.ci/setup cargo
	.ci/lock $(if $(UPGRADE),--upgrade)

clean: ## remove everything that was built, .venv and caches included
	rm -rf .venv .cache dist .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/out proxy/_engine*.so
	rm -rf $(CRATE)/target $(CRATE)/fuzz/target
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
