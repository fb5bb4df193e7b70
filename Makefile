# Every target does its own set-up, in .venv, from a fresh clone: Python 3.11.4 or later, pip and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint format install clean help
help:
	@echo "make demo       a whole search on real images: checked, coarse, narrowed, fine, finalized (some minutes on two cores)"
	@echo "make test       all tests but a few"
	@echo "make test-slow  these few, which take a minute each or more"
	@echo "make lint       style, format, types and layers"
	@echo "make format     mend style and format"
	@echo "make install    the tuner command, in $(BIN)"
	@echo "make clean      remove $(VENV); results stay"

demo: install
	$(BIN)/tuner check search_spaces/coarse.yaml
	$(BIN)/tuner run search_spaces/coarse.yaml
	$(BIN)/tuner finalize digits --top 2 --seeds 2 || test $$? -eq 2 # a demo that ran before has opened the test set
	$(BIN)/tuner report digits

test: $(VENV)/.developing
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal tests/unit tests/golden
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/end_to_end tests/integration

test-slow: $(VENV)/.developing # a server for the test of a head that comes back; without it that skips and says so
	@[ "$$(id -u)" != 0 ] || command -v redis-server >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server; } >/dev/null || true
	$(BIN)/python -m pytest -m slow tests/end_to_end tests/integration

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4) and "tuner needs Python 3.11.4 or later; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.developing: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV)
