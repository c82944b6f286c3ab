# make run     environment, then `howsure run`: the embedded default, offline, a report at the end
# make test    environment, then the tests
# make install only the environment: .venv, with the versions of constraints.txt
# make check   format, lint, strict types, fast tests

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

# Nothing is fetched while a run or a test goes on.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1

.DEFAULT_GOAL := run
.PHONY: run test install check clean

run: install
	$(OFFLINE) $(BIN)/howsure run

test: install
	$(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

install: $(STAMP)

# torch goes first and by its exact version: a range would take the newest, with its GPU libraries.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "howsure needs Python 3.11 or newer; set PYTHON=..." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' constraints.txt)" -c constraints.txt
	$(PIP) install --quiet -e '.[lm,dev]' -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
