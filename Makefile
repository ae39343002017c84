# Each target does its own set-up, inside .venv: a fresh machine needs Python 3.11 or newer and make, nothing else.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: browser check clean demo figures format glue-smoke help test

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := constraints.txt
INSTALL := .venv/bin/python -m pip install --quiet --progress-bar off -c constraints.txt

# not in .venv: the system's, which a root can install; without it the tests that open pages fail and say so
browser:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing chromium, in which pages are tested ..."; \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium >/dev/null 2>&1; \
	  fi; \
	  command -v chromium >/dev/null || \
	    echo "The tests of pages need chromium on the PATH (on Debian, as root: apt-get install chromium)" >&2; \
	}

check: .venv/.test  ## Lint, format, types, and what may import what; changes nothing.
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/basedpyright
	.venv/bin/lint-imports

clean:  ## Remove .venv, caches, and what demo, figures and report wrote.
	rm -rf .venv .coverage* .hypothesis .import_linter_cache .pytest_cache .ruff_cache dist
	rm -rf lorascope-demo lorascope-figures lorascope-report
	find benchmarks src tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

demo: .venv/.demo  ## Adapt a frozen network to a target and show what rank it takes; writes ./lorascope-demo.
	.venv/bin/lorascope demo

figures: .venv/.demo  ## Draw the paper's figures from the records in ./results; computes nothing, writes docs/figures.
	.venv/bin/lorascope figures --results results --out docs/figures

format: .venv/.test  ## Sort imports, fix what lint can fix, and format.
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

glue-smoke: .venv/.test  ## One GLUE task, thirty steps: MiniLM on SST-2 where the rows are there, made ones elsewhere.
	OMP_NUM_THREADS=1 .venv/bin/python tests/glue_smoke.py

help:  ## List these targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

test: .venv/.test browser  ## Every test that needs no GPU, with the coverage of the mathematics.
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 -m "not gpu" --cov

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing lorascope into .venv ..."
	@$(INSTALL) -e .
	@touch $@

.venv/.test: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing lorascope and its development tools into .venv ..."
	@$(INSTALL) -e '.[dev]'
	@touch .venv/.demo $@

# a name on the PATH may be a stub for a Python that is not there, so each candidate is run, not just looked up
.venv/bin/python:
	@for python in python3.11 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    $$python -m venv .venv && exit 0; \
	    rm -rf .venv; \
	    echo "lorascope needs Python's venv module with pip; $$python -m venv failed (on Debian: apt install python3-venv)" >&2; \
	    exit 1; \
	  fi; \
	done; \
	found=$$(python3 --version 2>/dev/null || echo none); \
	echo "lorascope needs Python 3.11 or newer on the PATH, as python3.11 or python3; found: $$found" >&2; \
	exit 1
