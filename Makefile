# One command for each thing that is done here; each sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
HOUSE := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
VENV := $(HOUSE).venv
BIN := $(VENV)/bin
# Suites run with a short list of the caller's variables.
CLEAN := $(HOUSE).ci/environment
PYTEST := $(CLEAN) $(BIN)/python -m pytest

# Where these tests are, for to collect all others takes half a minute (tests/unit/test_suites.py).
INTEGRATION := tests/integration tests/hostile tests/unit/formats/test_verity.py tests/unit/builder/oci/test_image.py

# Where tests are that `make test` takes less of (tests/sample.py, the marker `in_turn`).
SOAK := tests/builds/test_reproducibility.py tests/builds/test_lock.py tests/builds/test_care.py tests/builds/test_parts.py \
  tests/builds/test_oci.py tests/builds/test_wheel.py tests/vm/test_soak.py tests/vm/test_two_users.py tests/vm/test_killed.py \
  tests/vm/test_ends.py tests/hostile/test_flakes.py tests/hostile/test_rogue_agent.py

# Unit tests that start commands, fake machines or git.
STARTING := cli api builder/flakes launch/control machines launch/runtime launch/gate/test_replay.py \
  launch/test_many_starts.py test_mutants.py

.PHONY: help demo test test-as-user test-root test-builds test-vm test-hostile test-integration test-unit test-fast coverage lint docs format man bench fuzz soak systemd mutants setup setup-tests npm
help:                ## this list
	@grep -E '^[a-z-]+: .*##' $(HOUSE)Makefile | sed -E 's/:.*##/\t/' | expand -t 20

setup: $(VENV)/.done ## what mvm needs: programs from apt, a virtual environment from pyproject.toml

$(VENV)/.done: $(HOUSE)pyproject.toml $(HOUSE)setup
	@$(HOUSE)setup
	@touch $@

setup-tests: $(VENV)/.tests-done ## what tests and linters need beside that: make test and the like call it

$(VENV)/.tests-done: $(HOUSE)pyproject.toml $(HOUSE)setup
	@$(HOUSE)setup --tests
	@touch $(VENV)/.done $@

npm: $(VENV)/npm/.done ## npm's sigstore, and a Node that runs it, in .venv/npm for the tests

$(VENV)/npm/.done: $(HOUSE).ci/npm $(wildcard $(HOUSE)tests/npm/*.json $(HOUSE)tests/npm/*.txt) | setup-tests
	@$(HOUSE).ci/npm
	@touch $@

demo: setup          ## the whole chain, from examples/hello to a receipt
	@$(HOUSE)examples/demo

# Whatever takes no root's rights runs as a plain user: root's `make test` makes one, and runs the rest itself beside it, in
# a copy of the world that the user builds: by a name that no earlier run's world has.
ifeq ($(shell id -u),0)
test: setup-tests    ## the whole suite, real machines included; as root: as a plain user that it makes, and test-root
	@MVMNIX_TEST_WORLD=$$(mktemp -u /var/lib/mvmnix-ci/world.XXXXXX) $(MAKE) --no-print-directory \
	  -f $(HOUSE)Makefile -j2 --keep-going --output-sync=line test-as-user test-root
else
# Suites at once, for they wait now and then. What boots is three of them, each with a copy of the world and a builder VM;
# what forks is refused beside that VM's threads, so none has processes of its own.
test: setup-tests npm
	@cd $(HOUSE) && $(CLEAN) $(BIN)/mvm pin fetch
	@$(HOUSE).ci/with-world $(MAKE) --no-print-directory -f $(HOUSE)Makefile \
	  -j5 --keep-going --output-sync=line test-builds test-vm test-hostile test-integration test-unit
endif

test-as-user: setup-tests
	@$(HOUSE).ci/as-user $(MAKE) --no-print-directory test

test-root: setup-tests ## as root: what takes root's rights
	@cd $(HOUSE) && $(CLEAN) $(BIN)/mvm pin fetch
	@cd $(HOUSE) && .ci/with-world $(PYTEST) -m root

test-builds: setup-tests ## what builds in a real builder VM
	@cd $(HOUSE) && $(PYTEST) tests/builds

test-vm: setup-tests ## what boots other real machines
	@cd $(HOUSE) && $(PYTEST) -m 'vm and not systemd' tests/vm

test-hostile: setup-tests ## attacks on what builds and boots
	@cd $(HOUSE) && $(PYTEST) -m vm tests/hostile

test-integration: setup-tests npm ## real programs of the system, without a boot
	@cd $(HOUSE) && $(PYTEST) -m 'integration and not vm' $(INTEGRATION)

test-unit: setup-tests ## what needs neither
	@cd $(HOUSE) && $(PYTEST) -n 2 -m 'not vm and not integration'

coverage: setup-tests ## the part that boots nothing, with the lines and branches that it misses
	@cd $(HOUSE) && $(PYTEST) --cov --cov-report=term -m 'not vm and not integration'

test-fast: setup-tests ## of that, what starts no command and no machine: rules, parsers and types, in a minute
	@cd $(HOUSE) && $(PYTEST) -n auto -m 'not vm and not integration' $(addprefix --ignore tests/unit/,$(STARTING))

lint: setup-tests    ## style, types, floors between rooms, claims without a test
	@cd $(HOUSE) && $(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports
	@cd $(HOUSE) && $(CLEAN) $(BIN)/mvm lint claims

docs: setup-tests    ## the documents as a site that needs no server, in build/site; ARGS="--junit RESULTS.xml --bench report.json"
	@cd $(HOUSE) && $(CLEAN) $(BIN)/python -m tools.site $(ARGS)

format: setup-tests  ## what a machine can tidy
	@cd $(HOUSE) && $(BIN)/ruff format && $(BIN)/ruff check --fix

man: setup-tests     ## a manual page of each command, in build/man
	@cd $(HOUSE) && $(BIN)/python -m tests.unit.man_pages build/man

fuzz: setup-tests    ## the fuzzers of the channel and the network, ten minutes each or MVMNIX_FUZZ_SECONDS
	@cd $(HOUSE) && MVMNIX_FUZZ_SECONDS=$${MVMNIX_FUZZ_SECONDS:-600} $(PYTEST) --timeout 7200 tests/integration/test_fuzz.py tests/integration/test_control_fuzz.py

soak: setup-tests    ## what takes hours: 1,000 real starts in a row, 50 at once, all rows of which `make test` takes a sample
	@cd $(HOUSE) && MVMNIX_SOAK_STARTS=$${MVMNIX_SOAK_STARTS:-1000} MVMNIX_SOAK_AT_ONCE=$${MVMNIX_SOAK_AT_ONCE:-50} \
	  $(PYTEST) -s --timeout 21600 $(SOAK)

systemd: setup-tests ## a plain user's control groups in a guest that boots Debian's systemd; some minutes, more the first time
	@cd $(HOUSE) && $(PYTEST) tests/vm/test_systemd.py

mutants: setup-tests ## mutations of what decides security that no test notices: 300, or ARGS="--count 60 --seed 7"
	@cd $(HOUSE) && $(CLEAN) $(BIN)/python -m tools.mutants $(ARGS)

bench: setup-tests   ## figures against raw QEMU and Python: ratios and medians; all, in a directory: ARGS="report --out DIR"
	@cd $(HOUSE) && $(BIN)/python -m bench $(ARGS)
