# Every target makes or refreshes the two environments itself and works from any folder:
#   make -C path/to/tesserec demo        or        make -f path/to/tesserec/Makefile demo
ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,12))' 2>/dev/null && echo $$p && break; done)
VENV := $(ROOT)/.venv
SERVE := $(ROOT)/.venv-serve
BIN := $(VENV)/bin
UV := $(ROOT)/.uv/bin/uv
# uv reads neither pip's configuration nor PIP_*: hand over a folder of wheels (a CPU build of torch, say) if pip has one.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_LINK_MODE ?= hardlink
PIN := $(ROOT)/infra/constraints

.PHONY: help install demo test test-slow check format constraints clean
help:           ## this list
	@grep -hE '^[a-z-]+:.*##' $(ROOT)/Makefile | sed 's/:.*##/\t/' | expand -t 14

$(UV):
	@[ -n "$(PYTHON)" ] || { echo "tesserec needs Python 3.11 or 3.12; none was found (set PYTHON=/path/to/python)"; exit 2; }
	@$(PYTHON) -m venv $(ROOT)/.uv && $(ROOT)/.uv/bin/python -m pip install -q --disable-pip-version-check 'uv>=0.5'

$(VENV)/.stamp: $(ROOT)/pyproject.toml $(PIN)/pipeline.txt | $(UV)
	@echo "installing the pipeline environment (.venv)"
	@[ -x $(BIN)/python ] || $(UV) venv -q --seed -p $(PYTHON) $(VENV)
	@$(UV) pip install -q -p $(BIN)/python -c $(PIN)/pipeline.txt -e '$(ROOT)[dev]' && touch $@

# The server's Python stub needs numpy 1.26, Feast asks for numpy 2: two environments, one override (docs/decisions.md).
$(SERVE)/.stamp: $(ROOT)/pyproject.toml $(PIN)/serving.txt $(PIN)/serving-overrides.txt | $(UV)
	@echo "installing the serving environment (.venv-serve)"
	@[ -x $(SERVE)/bin/python ] || $(UV) venv -q -p $(PYTHON) $(SERVE)
	@$(UV) pip install -q -p $(SERVE)/bin/python -c $(PIN)/serving.txt --override $(PIN)/serving-overrides.txt -e '$(ROOT)[serve]' && touch $@

install: $(VENV)/.stamp $(SERVE)/.stamp    ## make or refresh both environments
