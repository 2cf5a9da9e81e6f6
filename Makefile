# make demo    install and run the main job on the embedded default
# make test    install with the developing tools and run the tests
# make lint    style, format and types
# make clean   remove the environment and what tools left behind; runs stay
#
# PYTHON=python3.12 chooses the Python, VENV=/some/folder the environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --constraint constraints.txt
WHAT_IS_INSTALLED := pyproject.toml constraints.txt src/molsaki/_version.py

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
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "molsaki needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(WHAT_IS_INSTALLED) | $(VENV)/.made
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(WHAT_IS_INSTALLED) | $(VENV)/.made
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
