# Everything here sets itself up: a virtual environment in .venv with the versions that
# constraints.txt pins. It is brought up to date only when pyproject.toml or constraints.txt change.
#
#   make compose      write two continuations of a seed from examples/ into out/
#   make test         the tests that take seconds      make test-slow   the others
#   make check        formatting, lint, types          make bench       every benchmark, quickly

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help compose test test-slow check format bench clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SEED_MIDI ?= examples/morning_waltz.mid
JOBS ?= 2

# The first Python that is there, runs, and is new enough.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python; do \
	if $$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$python; break; fi; done)

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "musegen needs Python 3.11 or newer (with venv)" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing musegen and what it needs (some minutes the first time)"
	@$(PIP) install -c constraints.txt setuptools
	@$(PIP) install -c constraints.txt --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	@echo "installing what the tests need"
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@echo "installing what the benchmarks compare with"
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev,bench]'
	@touch $@

compose: $(VENV)/core.stamp
	@echo "continuing $(SEED_MIDI) by 16 bars, twice:"
	@$(BIN)/musegen compose --seed-midi "$(SEED_MIDI)" --bars 16 --num 2 --random-seed 7 --out out/

test: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -q -m "not slow and not data and not gpu"

test-slow: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -q -m "slow or data or gpu"

check: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/dev.stamp
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/bench.stamp
	@set -e; for file in benchmarks/*.py; do \
	  grep -q '__name__ == "__main__"' $$file || continue; \
	  echo "== $$file"; $(BIN)/python $$file --quick; done

clean:
	rm -rf $(VENV) build dist out *.egg-info
