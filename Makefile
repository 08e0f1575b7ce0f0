PYTHON ?= python3
PYTHON_OLDEST ?= python3.10
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/dev-installed
PYTEST := $(BIN)/pytest -n 2 --dist worksteal $(PYTEST_ARGS)

.PHONY: demo test test-all test-oldest bench lint clean

# The whole story of sample_env/ against a PostgreSQL of its own. Needs less than the tests do.
demo: $(VENV)/demo-installed
	$(BIN)/python sample_env/deploy.py

test: $(STAMP)
	$(PYTEST) -m "not slow"

# Also what takes long, and the command line on every version of PostgreSQL.
test-all: $(STAMP)
	$(PYTEST) --every-version

# The oldest Python, Alembic, SQLAlchemy and psycopg that are supported.
test-oldest:
	$(PYTHON_OLDEST) -m venv --clear .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -e ".[dev]" \
	  alembic==1.13.3 sqlalchemy==2.0.30 "psycopg[binary]==3.1.20" asyncpg==0.29.0
	.venv-oldest/bin/pytest -n 2 --dist worksteal -m "not slow" $(PYTEST_ARGS)

bench: $(STAMP)
	set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-oldest build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

# A dev environment has all that the demo needs; otherwise the smaller one is made.
$(VENV)/demo-installed: pyproject.toml
	if [ -x $(BIN)/python ] && [ $(STAMP) -nt pyproject.toml ]; then :; else \
	  [ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[embedded]"; fi
	touch $@

$(STAMP): pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@ $(VENV)/demo-installed
