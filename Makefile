# `make` alone lists what there is to do.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup lab test lint build doctor clean

help:
	@echo "make lab      install what is needed and open the lessons in JupyterLab (options: ARGS='01 --port 9000 --no-browser')"
	@echo "make test     the same set-up, then all tests (options: ARGS='-k grading' WORKERS=2)"
	@echo "make setup    the set-up alone: a virtual environment in $(VENV)"
	@echo "make doctor   say what works here and what to do about the rest"
	@echo "make build    make notebooks and blanks from the masters in solutions/"
	@echo "make lint     ruff and the linter of lessons"
	@echo "make clean    remove caches and $(VENV); your lessons in my_lessons/ stay"

setup: $(STAMP)
	@echo "Ready. Next: make lab opens the lessons, make doctor says what works here."

# What was installed is written into the stamp, so a touched but unchanged file (a git checkout) costs no re-install.
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mmrec_teach needs Python 3.11 or newer, and $(PYTHON) is not: install one, or name it with make PYTHON=python3.12 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if test -f $@ && cat pyproject.toml requirements.lock | cmp -s - $@; then \
	  touch $@; \
	else \
	  echo "Installing into $(VENV): this takes some minutes, once, and says nothing until it is done."; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . && \
	  cat pyproject.toml requirements.lock > $@; \
	fi

lab: $(STAMP)
	@$(BIN)/mmrec-teach data verify > /dev/null 2>&1 || $(BIN)/mmrec-teach data regenerate
	@$(BIN)/mmrec-teach lab $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

doctor: $(STAMP)
	@$(BIN)/mmrec-teach doctor

build: $(STAMP)
	@$(BIN)/mmrec-teach course build

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mmrec-teach course check

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
