# make demo    install, and run the demo recipe
# make test    install for development, and run the tests; ARGS="-k spans -x" reaches pytest
# make lint    install for development, and check style, format and types
# make clean   remove the environment, builds and caches; runs stay
#
# PYTHON=python3.12 chooses the Python, VENV=/some/folder the environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --constraint constraints.txt
REQUIREMENTS := pyproject.toml constraints.txt src/molsaki/_version.py
OLD_PYTHON := molsaki needs Python 3.11 or later; try make PYTHON=python3.12. This is Python

.PHONY: help demo test lint clean

help:
	@sed -n 's/^# //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/molsaki run pocket

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit("$(OLD_PYTHON) " + sys.version.split()[0] if v < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(REQUIREMENTS) | $(VENV)/.made
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(REQUIREMENTS) | $(VENV)/.made
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
