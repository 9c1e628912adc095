# Every target works in a fresh clone: it makes the environment of requirements.lock first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORE := $(VENV)-core

# one thread a process: parallel test workers beat parallel linear algebra on small models
export OMP_NUM_THREADS ?= 1

# bytecode is kept: each test process would compile the package anew
unexport PYTHONDONTWRITEBYTECODE

DEMO_RUN := --dim 4022468096 --sigma 0.0015 --alpha 0.00075 --population 30 --steps 100,200,300,400

.PHONY: help install demo test test-slow test-core audit lint docs bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo | test | test-slow | test-core | audit MINUTES=10 | lint | docs | bench | clean"

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# a judging command exits with 3 when a prediction is refuted and 4 when none could be tested: results, not failures
demo: $(STAMP)
	$(BIN)/estheory predict $(DEMO_RUN)
	$(BIN)/estheory validate published || [ $$? -eq 3 ]
	$(BIN)/estheory demo || { status=$$?; [ $$status -eq 3 ] || [ $$status -eq 4 ]; }

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# exit code 5: nothing is marked slow
test-slow: $(STAMP)
	@echo "$(BIN)/python -m pytest -n 2 -m slow"
	@$(BIN)/python -m pytest -n 2 -m slow || { status=$$?; [ $$status -eq 5 ] && echo "no test is marked slow" || exit $$status; }

# every row of predict on configurations drawn at random, against an engine of its own: make audit MINUTES=60
audit: $(STAMP)
	$(BIN)/python -m tests.audit --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

# theory, simulation and the commands that need no torch: make test-core PYTHON=python3.13
test-core:
	$(PYTHON) -m venv $(CORE)
	$(CORE)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[plots,dev]'
	$(CORE)/bin/python -m pytest -n 2 --dist worksteal -m "not slow" --doctest-ignore-import-errors

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@for file in experiments/*/*.py; do $(BIN)/mypy --allow-untyped-calls --no-error-summary $$file || exit 1; done

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

bench: $(STAMP)
	$(BIN)/python benchmarks/cold_start.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/peers.py

# the environment stays: rm -r .venv starts over
clean:
	rm -rf site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage demo-output
	find estheory tests experiments benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
