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
	@grep -hE '^[a-z%-]+:.*##' $(ROOT)/Makefile | sed 's/:.*##/\t/' | expand -t 14

$(UV):
	@[ -n "$(PYTHON)" ] || { echo "tesserec needs Python 3.11 or 3.12; none was found (set PYTHON=/path/to/python)"; exit 2; }
	@$(PYTHON) -m venv $(ROOT)/.uv && $(ROOT)/.uv/bin/python -m pip install -q --disable-pip-version-check 'uv>=0.5'

$(VENV)/.stamp: $(ROOT)/pyproject.toml $(PIN)/pipeline.txt | $(UV)
	@echo "installing the pipeline environment (.venv; about 2 GB, a minute or so)"
	@[ -x $(BIN)/python ] || $(UV) venv -q --seed -p $(PYTHON) $(VENV)
	@$(UV) pip install -q -p $(BIN)/python -c $(PIN)/pipeline.txt -e '$(ROOT)[dev]' && touch $@

# The server's Python stub needs numpy 1.26, Feast asks for numpy 2: two environments, one override (docs/decisions.md).
$(SERVE)/.stamp: $(ROOT)/pyproject.toml $(PIN)/serving.txt $(PIN)/serving-overrides.txt | $(UV)
	@echo "installing the serving environment (.venv-serve; about 1.5 GB)"
	@[ -x $(SERVE)/bin/python ] || $(UV) venv -q -p $(PYTHON) $(SERVE)
	@$(UV) pip install -q -p $(SERVE)/bin/python -c $(PIN)/serving.txt --override $(PIN)/serving-overrides.txt -e '$(ROOT)[serve]' && touch $@

install: $(VENV)/.stamp $(SERVE)/.stamp    ## make or refresh both environments

# DATA: a folder with interactions.parquet and items.parquet (docs/data.md). VECTORS: a file in it with a vector an item;
# without one the item texts are encoded by lsa. CONFIG: a run's YAML.
CONFIG ?= $(ROOT)/configs/$(if $(DATA),quick,demo).yaml
WORKDIR ?= $(ROOT)/work/$(if $(DATA),$(notdir $(abspath $(DATA))),demo)
ENCODER = $(if $(VECTORS),encoder.name=precomputed encoder.vectors="$(VECTORS)",encoder.name=lsa)
OVERRIDES = $(if $(DATA),name="$(notdir $(abspath $(DATA)))" data.path="$(abspath $(DATA))" $(ENCODER))
demo: install  ## raw events -> release -> recommendations by Triton, on a generated shop or on DATA=folder
	@TESSEREC_PROJECT=$(ROOT) $(BIN)/python -m tesserec.demo $(CONFIG) --workdir $(WORKDIR) $(OVERRIDES)

PYTEST = cd $(ROOT) && TESSEREC_PROJECT=$(ROOT) $(BIN)/python -m pytest
test: install  ## unit, contract and integration tests, with the real Triton and KFP's local runner
	@$(PYTEST) -m "not slow and not gpu and not cluster and not network" $(ARGS)

test-slow: install  ## the long checks: kills in every step, 500 users
	@$(PYTEST) -m "slow" $(ARGS)

check: install ## ruff and pyright
	@cd $(ROOT) && $(BIN)/ruff format --check -q . && $(BIN)/ruff check -q . && $(BIN)/basedpyright --level error
	@echo "check: clean"

format: install  ## write the code as ruff wants it
	@cd $(ROOT) && $(BIN)/ruff format -q . && $(BIN)/ruff check -q --fix .

bench-%: install  ## bench-NAME runs benchmarks/NAME.py; QUICK=1 for a minute's version
	@cd $(ROOT) && $(BIN)/python benchmarks/$*.py

constraints: $(UV)  ## solve the pinned environments again
	@cd $(ROOT) && $(UV) pip compile -q -U --universal -p 3.11 pyproject.toml --extra dev --no-annotate --no-header -o $(PIN)/pipeline.txt
	@cd $(ROOT) && $(UV) pip compile -q -U --universal -p 3.11 pyproject.toml --extra serve --override $(PIN)/serving-overrides.txt --no-annotate --no-header -o $(PIN)/serving.txt

clean:          ## remove environments and results
	@rm -rf $(VENV) $(SERVE) $(ROOT)/.uv $(ROOT)/build $(ROOT)/work
