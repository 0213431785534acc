# `make run` and `make test` set everything up on a fresh machine; the other targets are their parts.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
UV := .venv/uv/bin/uv
PORT ?= 8501
API_PORT ?= 8000

# The CPU build of torch is enough and saves some 3 GB on Linux. TORCH=default takes the package index's own build.
TORCH ?= cpu
TORCH_VERSION := $(shell sed -n 's/^torch==\([0-9.]*\).*/\1/p' locks/torch.lock)

export PYTHONUTF8 := 1
export UV_LINK_MODE := copy
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help run build test lint types browser java bench bench-http bench-neo4j bench-demos lock golden clean

help:
	@echo 'make run    set up, build the atlas, open the UI and the HTTP service (PORT=8501, API_PORT=8000, TORCH=cpu|default)'
	@echo 'make test   set up, lint, type-check, run every test'
	@echo 'make lint | bench | bench-http | bench-neo4j | bench-demos | lock | golden | clean'

run: build
	$(BIN)/genatlas serve --port $(API_PORT) >.venv/serve.log & \
	service=$$!; trap "kill $$service 2>/dev/null" EXIT; \
	$(BIN)/genatlas ui --port $(PORT)

build: .venv/run.done
	$(BIN)/genatlas build

test: .venv/dev.done browser java lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

# Speed beside sentence-transformers + FAISS; odd queries; quality on judged questions beside other searches.
QUESTIONS ?= bench/questions.jsonl
bench: .venv/bench.done
	$(BIN)/genatlas build
	$(BIN)/python -m bench.search
	$(BIN)/python -m bench.odd_queries
	$(BIN)/python -m bench.peers $(QUESTIONS)

# The HTTP service under load, beside a bare one over the same vectors.
bench-http: .venv/dev.done
	$(BIN)/genatlas build
	$(BIN)/python -m bench.http

# Both stores as an atlas grows to 100,000 topics; starts a Neo4j server and stops it.
bench-neo4j: .venv/dev.done java
	$(BIN)/python -m bench.neo4j_scale

# Every demo on three seeds, two at a time: docs/demos.md.
bench-demos: .venv/dev.done
	$(BIN)/python -m bench.demos

# A Chromium that the browser tests drive, from the system's package manager where there is none.
browser:
	@if ! command -v chromium chromium-browser google-chrome >/dev/null; then \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq chromium; fi

# Java and Maven, with which the tests run a Neo4j server of their own.
java:
	@if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq openjdk-17-jre-headless maven; fi

.venv/uv/bin/uv: locks/uv.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "GenAtlas needs Python 3.11 or newer; name one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv/uv
	.venv/uv/bin/python -m pip install --quiet --require-hashes -r locks/uv.lock
	touch $@

.venv/bin/python: $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	touch $@

.venv/torch.done: .venv/bin/python locks/torch.lock
	@if [ "$$(uname -s)" = Linux ] && [ '$(TORCH)' = cpu ]; then \
	  echo 'Installing torch $(TORCH_VERSION), CPU build …'; \
	  UV_HTTP_RETRIES=0 $(UV) pip install --quiet --python $(BIN)/python --no-deps --torch-backend=cpu torch==$(TORCH_VERSION) 2>/dev/null \
	  || { echo 'The CPU build cannot be reached from here; taking the default build, which brings some 3 GB of CUDA libraries.'; \
	       $(UV) pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r locks/torch.lock; }; \
	else $(UV) pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r locks/torch.lock; fi
	touch $@

.venv/run.done: .venv/torch.done locks/run.lock pyproject.toml
	@echo 'Installing the packages of locks/run.lock …'
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --no-deps -r locks/run.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

.venv/dev.done: .venv/run.done locks/dev.lock
	@echo 'Installing the packages of locks/dev.lock …'
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --no-deps -r locks/dev.lock
	touch $@

.venv/bench.done: .venv/dev.done locks/bench.lock
	@echo 'Installing the packages of locks/bench.lock …'
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --no-deps -r locks/bench.lock
	touch $@

# Pins with hashes and without addresses, for every platform and Python that pyproject.toml allows.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
lock: $(UV)
	$(COMPILE) locks/uv.in -o locks/uv.lock
	$(COMPILE) --group build pyproject.toml | $(PYTHON) locks/split.py run.lock
	$(COMPILE) --group build --group dev pyproject.toml | $(PYTHON) locks/split.py dev.lock
	$(COMPILE) --group build --group dev --group bench pyproject.toml | $(PYTHON) locks/split.py bench.lock

# Files that tests hold the code against; look at the diff before you commit it.
golden: .venv/dev.done
	$(BIN)/python -m tests.cli.help
	$(BIN)/python -m tests.cli.readme
	$(BIN)/python -m ingest.schema corpus/schema

clean:
	rm -rf .venv test-output .pytest_cache .ruff_cache .hypothesis
