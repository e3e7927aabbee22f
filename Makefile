# What a developer does here. `make demo` and `make test` need only Python 3.11+, git and make:
# the first use makes .venv and installs what requirements/*.lock pins, by hash.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
LOCKS := requirements/uv-tool.lock requirements/dev.lock
PACKAGES := packages/newel packages/newel-tools
# A warm run only looks at this file's time stamp.
READY := $(VENV)/.ready

.PHONY: help demo test bench stress stress-crash check format lock upgrade clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(READY)  ## one sentence to a running service on http://127.0.0.1:8000 (PORT=8001 for another)
	@$(BIN)/python scripts/demo.py

# Three workers on two cores: each waits for something in a fifth of its time.
test: $(READY)  ## the whole suite with coverage, on SQLite and PostgreSQL, and every check, on two cores (ARGS="-x -k word")
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered $(ARGS)

bench: $(READY)  ## what a request costs, beside other ways to write the service (ARGS=--quick: 80 s)
	@$(BIN)/python -m benchmarks.bench $(ARGS)

stress: $(READY)  ## kill a running service at any moment and check its promises (ARGS="--kills 20"; half an hour)
	@$(BIN)/python -m stress crash $(ARGS)

stress-crash: $(READY)  ## the short run of it: 65 kills on SQLite, 65 on PostgreSQL (quarter of an hour)
	@$(BIN)/python -m stress crash --kills 45 --syscalls 20 $(ARGS)

check: $(READY)  ## format, lint, types, layers, sizes, locks: what `make test` does without running the code
	@$(BIN)/pytest -q -m check $(ARGS)

format: $(READY)  ## write the formatting that `make check` asks for
	@$(BIN)/ruff check --select I --fix --quiet .
	@$(BIN)/ruff format .

lock: $(READY)  ## compile requirements/*.lock again after a change of a pyproject.toml
	@$(BIN)/python scripts/lock.py

upgrade: $(READY)  ## compile requirements/*.lock to the newest versions; then run `make test`
	@$(BIN)/python scripts/lock.py --upgrade

clean:  ## remove what make, the tools and the tests made, but never ./demo
	@rm -rf $(VENV) .benchmarks .coverage .coverage.* htmlcov dist build \
	  .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	@find packages scripts tests docs benchmarks stress -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): $(LOCKS) $(addsuffix /pyproject.toml,$(PACKAGES))
	@python=''; \
	for name in python3.14 python3.13 python3.12 python3.11 python3; do \
	  if $$name -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	  then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'newel needs Python 3.11 or newer with venv (Debian: apt install python3-venv); found:' \
	    "$$(python3 --version 2>/dev/null || echo 'no python3')" >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	  echo "making $(VENV) with $$($$python --version)"; \
	  rm -rf $(VENV) && $$python -m venv $(VENV) || exit 1; \
	fi
	@echo 'installing what requirements/*.lock pins'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv-tool.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	@touch $@
