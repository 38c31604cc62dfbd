# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

EXTRAS := server,embedded,scorer,tokenizers,tiktoken,parquet,plots,postgres
STAMP := $(VENV)/.installed
VLLM_VENV ?= .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed

.PHONY: help install vllm demo serve test test-fast test-full test-vllm check format bench clean

help: ## List these commands.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml scripts/install
	scripts/install "$(PYTHON)" "$(VENV)" "$(EXTRAS)"
	@touch $(STAMP)

install: $(STAMP) ## Make .venv with everything the server and the tests need.

$(VLLM_STAMP): scripts/install_vllm
	scripts/install_vllm "$(PYTHON)" "$(VLLM_VENV)"
	@touch $(VLLM_STAMP)

vllm: install $(VLLM_STAMP) ## Make .venv-vllm with vLLM for the CPU, and the small model that the tests serve with it.
	$(BIN)/python scripts/make_smollm2.py

demo: install ## Start a server, ingest example tickets, compare two methods, print a prompt.
	$(BIN)/kshot demo

serve: install ## Run the server on http://127.0.0.1:8080, data in ./kshot-data.
	$(BIN)/kshot serve

test: install check vllm ## All tests at CI counts: fast, slow, real components, real vLLM. Under 40 minutes.
	$(BIN)/pytest -n 0 -m "not vllm_offline" -q --hypothesis-profile=ci

test-fast: install ## The fast tier alone, as plain `pytest` runs it.
	$(BIN)/pytest -q

test-full: install check vllm ## All tests with the full counts of the crash and statistics tests.
	KSHOT_TEST_FULL=1 $(BIN)/pytest -n 0 -m "not vllm_offline" -q --hypothesis-profile=ci

test-vllm: vllm ## The tests against a real vLLM on this machine's CPU; prints by how much its answers differ.
	$(BIN)/pytest -n 0 -m vllm -q -s --hypothesis-profile=ci

check: install ## Formatting, lint, types, layers.
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format and fix what can be fixed.
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

bench: install ## Measure selection, ingestion and memory; see benchmarks/README.md.
	$(BIN)/python benchmarks/select.py

clean: ## Remove the virtual environment and caches.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
