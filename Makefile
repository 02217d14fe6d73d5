# What a newcomer types: `make run`, `make test`, `make demo`. Each installs what is missing first
# (scripts/setup), says what it does, and is ready in seconds when there is nothing to install.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= sipivr.toml
# What takes long to make survives the clone: built wheels (docker/pjsua2/build.sh) and spoken prompts.
SIPIVR_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sipivr
SIPIVR_PROMPTS__CACHE_DIR ?= $(SIPIVR_CACHE)/prompts
export PYTHON VENV PJSUA2 SIPIVR_CACHE SIPIVR_PROMPTS__CACHE_DIR

.PHONY: help setup setup-run setup-test run init demo test check lint types imports tests format doctor \
	settings constraints soak prove-packaging clean distclean

help: ## This list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: setup-test ## Install everything for running and testing

setup-run:
	@scripts/setup run

setup-test:
	@scripts/setup test

run: setup-run ## Install what is missing, initialise once, start the switch
	@test -e $(CONFIG) || $(BIN)/sipivr init --config $(CONFIG)
	@exec $(BIN)/sipivr serve --config $(CONFIG)

init: setup-run ## Write settings, databases, keys and the first accounts, without starting
	@$(BIN)/sipivr init --config $(CONFIG)

demo: setup-run ## The main job on loopback: two telephones, the switch, a paid call
	@exec $(BIN)/python -m bench demo $(DEMO)

test: setup-test check ## Install what is missing, then lint, types, arrows and all tests

check: lint types imports tests

lint: setup-test ## ruff: rules and layout
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup-test
	@$(BIN)/mypy

imports: setup-test
	@$(BIN)/lint-imports --no-cache

tests: setup-test
	@$(BIN)/python -m pytest $(PYTEST)

format: setup-test ## Let ruff mend layout and what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

doctor: setup-run ## What on this machine would hinder the switch, each with its mend
	@$(BIN)/sipivr doctor --config $(CONFIG)

settings: setup-run ## Write docs/settings.md from the settings themselves
	@$(BIN)/sipivr settings --markdown > docs/settings.md.new
	@mv docs/settings.md.new docs/settings.md

bench-%: setup-run ## A benchmark: bench-engine, bench-cps, …; options in BENCH="--legs 500"
	@exec $(BIN)/python -m bench $* $(BENCH)

soak: setup-run ## 200 calls in a row, 20 at once: what do they leave behind? SOAK="--calls 1000"
	@exec $(BIN)/python -m bench soak $(SOAK)

constraints: setup-test ## Pin what is installed now
	@scripts/pin-constraints

prove-packaging: setup-run ## The Dockerfile's steps and the users' isolation in a fresh Debian root
	@scripts/prove-packaging

clean: ## Remove caches; keep the virtual environment, settings and databases
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## As clean, and the virtual environment
	@rm -rf $(VENV)
