# Slipway. Needs Git, make and Python 3.11, 3.12 or 3.13 (uv downloads one if there is none);
# everything else comes from PyPI.
# Written for GNU make 3.81, which is what macOS has.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.SUFFIXES:

# Prefect takes twice as long to import without its compiled modules, in every flow run.
unexport PYTHONDONTWRITEBYTECODE
# Another project's activated environment is not ours to install into.
unexport VIRTUAL_ENV UV_PROJECT_ENVIRONMENT
# A preference when an environment is made, see find_python; uv would take it for an order.
PREFERRED_PYTHON := $(or $(UV_PYTHON),$(PREFERRED_PYTHON))
export PREFERRED_PYTHON
unexport UV_PYTHON

PYTHON := .venv/bin/python
SLIPWAY := .venv/bin/slipway
UV = $$(command -v uv || echo "$(CURDIR)/.slipway/uv/bin/uv")
# make demo TARGET=docker: what runs the model.
MODEL_TARGET := $(if $(TARGET),--target=$(TARGET))
ENVIRONMENTS := .venv/.synced model/.venv/.synced

.PHONY: help setup demo up down status doctor check test test-model lint format bench clean

help:  ## Show this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

setup:  ## Create both locked environments, .venv and model/.venv
	@$(hold_setup_lock); \
	$(MAKE) --silent --no-print-directory uv || exit 1; \
	python=; [ -x .venv/bin/python ] && [ -x model/.venv/bin/python ] || python=$$($(find_python)) || exit 1; \
	$(MAKE) --silent --no-print-directory -j2 FOUND_PYTHON="$$python" $(ENVIRONMENTS) || exit 1; \
	$(MAKE) --silent --no-print-directory prefect.yaml

demo: setup  ## Retrain and deploy a model through the local stack, and try it (TARGET=docker: in a container)
	@$(SLIPWAY) demo $(MODEL_TARGET)

up: setup  ## Start the local stack: database, S3, Prefect, worker, proxy, origin
	@$(SLIPWAY) up

down:  ## Stop everything; data stays in .slipway
	@if $(SLIPWAY) --help >/dev/null 2>&1; then \
	  $(SLIPWAY) down; \
	elif pid=$$(cat .slipway/supervisor/supervisord.pid 2>/dev/null) && kill -0 "$$pid" 2>/dev/null; then \
	  echo "The stack runs (supervisord is process $$pid), and .venv, which could stop it, is broken." >&2; \
	  echo "Nothing was stopped or removed. Next: rm -rf .venv && make setup && make down" >&2; \
	  exit 1; \
	fi

status:  ## Show what runs, and where
	@if [ -x $(SLIPWAY) ]; then $(SLIPWAY) status; else echo "nothing is set up yet"; fi

doctor: setup  ## Check the set-up, and say how to fix each problem
	@$(SLIPWAY) doctor

check: setup  ## Check what a deploy needs: make check ENVIRONMENT=production
	@$(SLIPWAY) check $(or $(ENVIRONMENT),local)

# The lint runs beside the first tests, which leave a core idle. Not by make's own --jobs: its
# variables would reach the makes that tests start.
test: setup  ## Lint, check types, and run all tests on a stack of their own
	@$(MAKE) --no-print-directory lint & lint=$$!; trap 'kill $$lint' INT TERM; \
	$(PYTHON) -m pytest --numprocesses 4 --dist loadfile --durations 10; tests=$$?; \
	wait $$lint || { echo "make lint failed: see the first lines of this output" >&2; exit 1; }; \
	exit $$tests

test-model: setup  ## Test your model: parameters, pipeline, the served model, tests/model, tests/data
	$(PYTHON) -m pytest tests/pipeline tests/model tests/data

lint: setup  ## Check style, types and workflows
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo --no-cache
	[ ! -d .github/workflows ] || .venv/bin/actionlint
	[ ! -d .github/workflows ] || .venv/bin/zizmor --offline --quiet --persona=pedantic .github

format: setup  ## Fix style
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

bench: setup  ## Measure Slipway beside others: make bench ONLY=serving; see docs/performance.md
	$(PYTHON) -m benchmarks $(ONLY)

clean: down  ## Stop everything and remove all that was made, data and models included
	@if $(SLIPWAY) --help >/dev/null 2>&1; then $(SLIPWAY) down --containers; fi
	rm -rf .slipway .venv model/.venv .mypy_cache .pytest_cache .ruff_cache prefect.yaml
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps lie inside the environments, so that they go together.
.venv/.synced: pyproject.toml uv.lock
	@$(call sync,.,1300)

model/.venv/.synced: model/pyproject.toml model/uv.lock
	@$(call sync,model,300)

# For Prefect's own commands; the folder changes when an environment is added or removed.
prefect.yaml: $(wildcard deployments/prefect.yaml deployments/environments deployments/environments/*.toml)
	@$(PYTHON) -m deployments.catalogue.prefect_yaml

# $(1): the project's folder; $(2): MB on disk. An existing environment keeps its Python.
define sync
echo "installing $(1)/.venv, about $(2) MB"; \
python=; [ -x $(1)/.venv/bin/python ] || python="$(FOUND_PYTHON)"; \
uv=$(UV); "$$uv" sync --quiet --frozen --project $(1) $${python:+--python "$$python"} && touch $(1)/.venv/.synced
endef

# A second `make setup` waits: of two at once, one would call the other's half environment complete.
# mkdir is atomic everywhere; flock is not on macOS. A lock whose owner is gone is taken over.
define hold_setup_lock
lock=.slipway/setup.lock; announced=; \
mkdir -p .slipway && [ -w .slipway ] || { \
  echo "Cannot write to $(CURDIR)/.slipway. Make it yours (it may be root's), then run the same command again." >&2; \
  exit 1; }; \
until mkdir $$lock 2>/dev/null; do \
  owner=$$(cat $$lock/pid 2>/dev/null); \
  if [ -n "$$owner" ]; then kill -0 "$$owner" 2>/dev/null; else [ -z "$$(find $$lock -prune -mmin +1 2>/dev/null)" ]; fi || { \
    rm -rf $$lock; continue; }; \
  [ -n "$$announced" ] || echo "waiting for another make setup (process $$owner; if it is none: rm -r $$lock)"; announced=yes; \
  sleep 1; \
done; \
echo $$$$ > $$lock/pid; \
trap 'rm -rf $$lock' EXIT; trap 'exit 130' HUP INT TERM
endef

.PHONY: uv
uv:
	@command -v uv >/dev/null || [ -x .slipway/uv/bin/uv ] || { \
	  echo "installing uv into .slipway/uv"; \
	  python=$$($(find_any_python)) || exit 1; \
	  rm -rf .slipway/uv; mkdir -p .slipway; \
	  "$$python" -m venv .slipway/uv && .slipway/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<0.14' || { \
	    rm -rf .slipway/uv; \
	    echo "Cannot install uv. If Python has no venv module, install it (Debian: apt-get install python3-venv)." >&2; \
	    exit 1; }; }

# Prints the path of the first Python that both environments can be made from; without one, uv
# downloads it.
define find_python
for name in $(PREFERRED_PYTHON) python3.13 python3.12 python3.11 python3 python; do \
  path=$$(command -v "$$name" || command -v "python$$name") || continue; \
  "$$path" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
  echo "$$path"; exit 0; \
done; \
uv=$(UV); \
"$$uv" python find --no-python-downloads '>=3.11,<3.14' 2>/dev/null && exit 0; \
echo "no Python 3.11, 3.12 or 3.13 on PATH: uv downloads Python 3.13, about 30 MB" >&2; \
"$$uv" python install --quiet 3.13 && "$$uv" python find 3.13 && exit 0; \
echo "uv cannot download Python 3.13. Install Python 3.11, 3.12 or 3.13, or name one: UV_PYTHON=/path/to/python3.12 make setup" >&2; \
exit 1
endef

# Prints the path of any Python that can install uv, also one that is too new for the environments.
define find_any_python
for name in $(PREFERRED_PYTHON) python3.13 python3.12 python3.11 python3 python; do \
  path=$$(command -v "$$name" || command -v "python$$name") || continue; \
  "$$path" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || continue; \
  echo "$$path"; exit 0; \
done; \
echo "Slipway needs uv, or a Python to install it with: Python 3.11, 3.12 or 3.13; neither is on PATH. Install one, or name one: UV_PYTHON=/path/to/python3.12 make setup" >&2; \
exit 1
endef
