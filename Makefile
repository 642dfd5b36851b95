# One command for each thing that is done here; each sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
HOUSE := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
VENV := $(HOUSE).venv
BIN := $(VENV)/bin

.PHONY: help demo test test-fast lint format bench setup
help:                ## this list
	@grep -E '^[a-z-]+: .*##' $(HOUSE)Makefile | sed -E 's/:.*##/\t/' | expand -t 20

setup: $(VENV)/.done ## programs from apt, a virtual environment from pyproject.toml

$(VENV)/.done: $(HOUSE)pyproject.toml $(HOUSE)setup
	@$(HOUSE)setup
	@touch $@

demo: setup          ## the whole chain, from examples/hello to a receipt
	@$(HOUSE)examples/demo

# In two processes: what forks is refused beside the threads of the builder VM that the others share.
test: setup          ## the whole suite, real machines included
	@cd $(HOUSE) && $(BIN)/mvm pin fetch
	@cd $(HOUSE) && $(BIN)/python -m pytest --cov --cov-report= -m 'not vm and not integration'
	@cd $(HOUSE) && $(BIN)/python -m pytest --cov --cov-append --cov-report=term -m 'vm or integration'

test-fast: setup     ## the part that boots nothing, under a minute
	@cd $(HOUSE) && $(BIN)/python -m pytest -n auto -m 'not vm and not integration'

lint: setup          ## style, types, floors between rooms
	@cd $(HOUSE) && $(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports

format: setup        ## what a machine can tidy
	@cd $(HOUSE) && $(BIN)/ruff format && $(BIN)/ruff check --fix

bench: setup         ## figures against raw QEMU and Python: ratios and medians
	@cd $(HOUSE) && $(BIN)/python -m bench
