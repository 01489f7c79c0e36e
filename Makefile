# Two commands: `make demo` and `make test`. Each does all its own set-up; nothing but python3, pip and make is needed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
UV := .tools/bin/uv
RUN := $(UV) run --frozen --no-progress
PYTHON ?= python3

.PHONY: help demo test unit lint bench docs setup packages clean

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

# `--target` needs neither ensurepip nor leave to change the system's own Python (PEP 668).
$(UV):
	@rm -rf .tools
	@echo "set-up: uv, into .tools"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-cache-dir --root-user-action=ignore --target .tools 'uv>=0.9'

.venv/.ready: $(UV) uv.lock pyproject.toml
	@echo "set-up: the locked environment, into .venv"
	@$(UV) sync --frozen --quiet
	@touch $@

setup: .venv/.ready  ## a virtual environment from uv.lock

packages:  ## Debian packages that the tests compare with (as root; otherwise says what is missing)
	@bash .ci/packages

demo: setup  ## build a real project, run it in an isolated execution environment
	@$(RUN) bash examples/demo.sh

lint: setup  ## style, types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

unit: setup  ## the tests without I/O
	$(RUN) pytest tests/unit tests/arch -q

test: packages setup lint  ## everything that must hold
	$(RUN) pytest -n 2 --dist loadfile tests

bench: setup  ## ratios against peers, both sides in one run (make bench BENCH="build start")
	$(RUN) python -m bench $(BENCH)

docs: setup  ## write docs/reference anew from the code
	$(RUN) python -m lading.cli.reference docs/reference/cli.md
	$(RUN) python -m lading.config.reference docs/reference/configuration.md
	$(RUN) python -m lading.audit.codes docs/reference/findings.md

clean:  ## what the commands made
	rm -rf .venv .tools dist examples/*/dist examples/*/.lading
