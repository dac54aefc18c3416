# The two commands of the README are `make demo` and `make test`; each makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo

.PHONY: help demo test test-slow bench check format weights constraints clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing (about 2.6 GB, more where torch comes with CUDA; a few minutes) …"
	@# torch first: held by the constraints, nothing else can then pull another build of it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@

demo: $(VENV)/.installed  ## a simulated quake from the feed to a published map, on local stand-ins
	$(BIN)/quakeslide demo --out $(OUT)

test: $(VENV)/.installed  ## the quick test suite
	$(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --durations=20 --durations-min=5 -m "not slow and not live"

test-slow: $(VENV)/.installed  ## the tests that take minutes
	$(BIN)/python -m pytest -q -m "slow and not live"

bench: $(VENV)/.bench  ## measure throughput against other software into tests/bench (10 minutes; leave the machine alone)
	$(BIN)/python -m tests.bench

check: $(VENV)/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

weights: $(VENV)/.installed  ## simulate the training domains and train the committed weights again
	$(BIN)/python -m modeling.training.shipped --all

constraints: $(VENV)/.installed  ## write down what is installed
	{ echo "# Every version that was installed together and tested on Python 3.11 (make constraints writes this file)."; \
	  $(BIN)/python -m pip freeze --all --exclude quakeslide --exclude-editable | grep -viE '^(pip|wheel)=' \
	  | sed 's/+[A-Za-z0-9.]*$$//'; } > constraints.txt  # with no local label, such as +cpu: every build of a version fits

clean:  ## remove the environment and what the demo made
	rm -rf $(VENV) $(OUT) .quakeslide build *.egg-info
