# Two commands: `make demo` and `make test`. Each does all its own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help
UV := .tools/bin/uv
RUN := $(UV) run --frozen --no-progress
PYTHON ?= python3

.PHONY: help demo test unit lint bench docs setup clean

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

$(UV):
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'

.venv/.ready: $(UV) uv.lock pyproject.toml
	$(UV) sync --frozen --quiet
	@touch $@

setup: .venv/.ready  ## a virtual environment from uv.lock

demo: setup  ## build a real project, run it in an isolated execution environment
	@$(RUN) bash examples/demo.sh

lint: setup  ## style, types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

unit: setup  ## the tests without I/O
	$(RUN) pytest tests/unit tests/arch -q

test: setup lint  ## everything that must hold
	$(RUN) pytest -n 2 --dist loadgroup tests

bench: setup  ## ratios against peers, both sides in one run
	$(RUN) python -m bench

clean:  ## what the two commands made
	rm -rf .venv .tools dist examples/*/dist
