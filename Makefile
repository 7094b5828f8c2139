# Two commands do everything on a fresh machine with Python 3.11 to 3.13:
#   make demo    meta-train, transfer, compare, enrol; leaves demo/report.html
#   make test    the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.ready-docs
LESSONS_VENV := .venv-lessons
LESSONS_READY := $(LESSONS_VENV)/.ready
METAVOX_DATA ?= ../shared/data
# Real recordings are used where they are; an empty value means none.
export METAVOX_DATA := $(abspath $(wildcard $(METAVOX_DATA)))
export OMP_NUM_THREADS ?= 1
# Processes that the tests run in.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format bench lessons docs clean

help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## create .venv and install everything that demo and test need

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Metavox needs Python 3.11, 3.12 or 3.13; name one: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module; install it (Debian: apt-get install python3-venv) and run make again."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/pip install -q -c constraints.txt torch
	@$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup      ## the main job: about five minutes on two CPU cores
	@$(BIN)/metavox demo --out demo

test: setup      ## the tests, slow ones left out
	@$(BIN)/python -m pytest -m 'not slow' -n $(JOBS) --dist loadfile

test-all: setup  ## the tests, slow ones too
	@$(BIN)/python -m pytest

check: setup     ## format, lint, types, architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_architecture.py

format: setup    ## rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup     ## the quick benchmarks; each writes its JSON to benchmarks/
	@$(BIN)/python benchmarks/drawing.py

$(LESSONS_READY): pyproject.toml constraints.txt lessons/requirements.txt
	@test -x $(LESSONS_VENV)/bin/python || $(PYTHON) -m venv $(LESSONS_VENV)
	@echo "Installing into $(LESSONS_VENV) what the lessons need, TensorFlow too (a few minutes the first time)"
	@$(LESSONS_VENV)/bin/pip install -q -c constraints.txt torch
	@$(LESSONS_VENV)/bin/pip install -q -c constraints.txt -e '.[demo,keras]' -r lessons/requirements.txt
	@if $(LESSONS_VENV)/bin/pip list 2>/dev/null | grep -i '^nvidia-'; then \
	  echo "The install brought CUDA packages; pin their CPU builds in lessons/requirements.txt."; exit 1; fi
	@touch $@

lessons: $(LESSONS_READY)  ## run every lesson top to bottom, in an environment of their own
	@$(LESSONS_VENV)/bin/python tools/lessons.py check
	@$(LESSONS_VENV)/bin/python tools/lessons.py run
	@$(LESSONS_VENV)/bin/python -m pytest -m 'not slow' tests/lessons/test_support_conditioned.py tests/lessons/test_support_conditioned_faults.py

$(DOCS_READY): $(READY)
	@echo "Installing what the site is built with"
	@$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(DOCS_READY)  ## the site, into build/docs; any warning stops it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/docs/index.html"

clean:           ## remove what make made, not the caches
	@rm -rf $(VENV) $(LESSONS_VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache
