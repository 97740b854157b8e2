# upramp: `make help` lists what can be made. Nothing is needed but make and Python 3.11 or later.

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

# The newest Python that starts, is 3.11 or later and can make virtual environments; or give one: make test PYTHON=...
CANDIDATES = python3.13 python3.12 python3.11 python3 python3.14
SUITS = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c '$(SUITS)' >/dev/null 2>&1 && echo $$p && break; done)

VENV = .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
PEER_VENV = .venv-peer
PEER_READY = $(PEER_VENV)/.ready
PEER = jwst==3.0.0 pysiaf
PIP = -m pip --quiet --disable-pip-version-check --no-input
ROOMS = daemon simulate stages store

.PHONY: help demo test lint format peer fault bench images fidelity clean python

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## synthesize a small visit with known truth, calibrate it, compare
	@$(BIN)/upramp demo

test: $(READY)  ## all tests; then those of the kernels once more without compiling them
	$(BIN)/python -m pytest $(ARGS)
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest tests/stages

lint: $(READY)  ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	@mkdir -p .typing/upramp && for room in $(ROOMS); do ln -sfn ../../$$room .typing/upramp/$$room; done
	MYPYPATH=.typing $(BIN)/mypy --namespace-packages --explicit-package-bases .typing/upramp
	@$(BIN)/lint-imports --verbose >.typing/imports 2>&1 || { cat .typing/imports; exit 1; }
	@tail -n 2 .typing/imports

format: $(READY)  ## put the code in the style that lint asks for
	$(BIN)/ruff format .

peer: $(READY) $(PEER_READY)  ## hold products against the observatory's own package
	$(BIN)/python -m pytest -m peer tests $(ARGS)

fault: $(READY)  ## kill the service at random points and see that nothing is lost
	$(BIN)/python -m pytest -m fault tests $(ARGS)

bench: $(READY) $(PEER_READY)  ## measure speed and memory beside the observatory's package
	$(BIN)/python benchmarks/stage1.py --peer $(PEER_VENV)/bin/python $(ARGS)

images: $(READY) $(PEER_READY)  ## measure stages 2 and 3 beside the observatory's package
	$(BIN)/python benchmarks/images.py --peer $(PEER_VENV)/bin/python $(ARGS)

fidelity: $(READY) $(PEER_READY)  ## every instrument and option beside the observatory's package
	$(BIN)/python benchmarks/fidelity.py --peer $(PEER_VENV)/bin/python $(ARGS)

clean:  ## remove what make made
	rm -rf $(VENV) $(PEER_VENV) .typing .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@test -n "$(PYTHON)" || { \
		echo "upramp needs Python 3.11 or later with its venv module, and found none among: $(CANDIDATES)." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3" >&2; \
		exit 2; }

$(READY): pyproject.toml | python
	@echo "installing upramp into $(VENV) ($(PYTHON)) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) install --editable '.[dev]'
	@touch $@

$(PEER_READY): Makefile | python
	@echo "installing the observatory's package into $(PEER_VENV), which takes some minutes ..."
	@test -x $(PEER_VENV)/bin/python || $(PYTHON) -m venv $(PEER_VENV)
	@$(PEER_VENV)/bin/python $(PIP) install $(PEER)
	@touch $@
