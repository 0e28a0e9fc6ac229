# Needs: python3 (3.11 to 3.14) and npm. Everything else is fetched on first use, into .tools, .venv and node_modules.
# Each target sets up what it needs first; set-up is redone when a lock file changes and is skipped otherwise.

PYTHON ?= python3
ARGS ?=
UV_VERSION := 0.13.8

UV := .tools/uv-$(UV_VERSION)/bin/uv
BIN := .venv/bin
PYTHON_READY := .venv/.installed
NODE_READY := node_modules/.installed
SETUP := $(PYTHON_READY) $(NODE_READY)
PROTOC = $(BIN)/python -m grpc_tools.protoc -I .
PROTO_FILES = $$(find protos -name '*.proto' | sort)
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --extra dev --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

# Ray's processes start three seconds later when no compiled file may be kept.
unexport PYTHONDONTWRITEBYTECODE
# Another environment that happens to be active must not receive the packages.
unexport VIRTUAL_ENV
unexport CONDA_PREFIX

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup bench run test adversaries check check-stubs check-contracts protos contracts format lock upgrade clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SETUP) ## Install the pinned Python packages and native tools (every other target does this first)

bench: $(SETUP) ## Run the quick benchmark and print its report (ARGS="--rate 2000" adds options)
	$(BIN)/lockstep bench quick $(ARGS)

run: $(SETUP) ## Start a testnet and show its endpoints until Ctrl-C (ARGS="--rollups 8" adds options)
	$(BIN)/lockstep up $(ARGS)

test: $(SETUP) ## Run all tests in parallel (ARGS="-k derivation" selects)
	$(BIN)/python -m pytest -n auto --dist=worksteal tests $(ARGS)

adversaries: $(SETUP) ## Run every adversary scenario in full, about 15 minutes (ARGS="-k ring" selects)
	LOCKSTEP_ADVERSARIES=1 $(BIN)/python -m pytest tests/e2e/test_bench_agglayer.py -k an_adversary $(ARGS)

check: $(SETUP) check-stubs check-contracts ## Lint, format, types, import layers, stubs and contract artifacts up to date
	@failed=""; \
	run() { echo "$$*"; "$(BIN)/$$@" || failed="$$failed$$1 "; }; \
	run ruff check .; run ruff format --check .; run mypy; run lint-imports; \
	[ -z "$$failed" ] || { echo "make check failed: $$failed" >&2; exit 1; }

check-stubs: $(PYTHON_READY)
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; mkdir "$$fresh/old"; \
	$(PROTOC) --python_out="$$fresh" --pyi_out="$$fresh" --grpc_python_out="$$fresh" $(PROTO_FILES); \
	find protos -name '*_pb2*.py*' -not -path '*/__pycache__/*' -exec cp --parents {} "$$fresh/old" \; ; \
	diff -r "$$fresh/old/protos" "$$fresh/protos" > "$$fresh/difference" \
	|| { head -n 40 "$$fresh/difference"; echo "The generated stubs differ from the .proto files: run 'make protos'." >&2; exit 1; }

check-contracts: $(SETUP)
	$(BIN)/python contracts/build.py --check
	$(BIN)/python -m nodes.solana.inbox.build --check

protos: $(PYTHON_READY) ## Generate the protobuf and gRPC stubs beside their .proto files
	find protos -name '*_pb2*.py*' -not -path '*/__pycache__/*' -delete
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=. $(PROTO_FILES)

contracts: $(SETUP) ## Compile the Solidity sources and the Solana inbox (with clang 19) to the committed artifacts
	$(BIN)/python contracts/build.py
	$(BIN)/python -m nodes.solana.inbox.build

format: $(PYTHON_READY) ## Format the code and apply the linter's safe fixes
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

lock: $(UV) ## Bring requirements.lock and package-lock.json in line with what is declared, keeping pins
	$(COMPILE)
	npm install --package-lock-only --ignore-scripts

upgrade: $(UV) ## Move every Python pin to the newest version allowed
	$(COMPILE) --upgrade

clean: ## Delete everything that was installed or generated, except results
	rm -rf .venv .tools node_modules build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' \
	|| { echo "Lockstep needs Python 3.11 to 3.14 as '$(PYTHON)'; name another one with: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .tools/uv-$(UV_VERSION) \
	|| { rm -rf .tools; echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	.tools/uv-$(UV_VERSION)/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@touch $@

.venv/.synced: requirements.lock | $(UV)
	[ -x $(BIN)/python ] || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@touch $@

# The build backend comes from the lock too. The compat mode puts the repository itself on the path: mypy can read it, and
# a package that appears later is found without installing again.
$(PYTHON_READY): pyproject.toml .venv/.synced
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

$(NODE_READY): package.json package-lock.json
	@if command -v npm > /dev/null; then \
		echo "npm ci --ignore-scripts"; npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; touch $@; \
	elif [ -x "$${LOCKSTEP_ANVIL:-}" ] || command -v anvil > /dev/null; then \
		echo "npm is missing: using the anvil that is already installed; tests of other tools will fail." >&2; \
	else \
		echo "Lockstep needs anvil and found neither npm nor anvil. Install Node.js 20 or newer (with npm), or install" >&2; \
		echo "Foundry and put anvil on PATH, or set LOCKSTEP_ANVIL to its path. Then run make again." >&2; exit 1; \
	fi
