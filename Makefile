# make results/fsnet_ablation.json   any target of the workflow; the environment is made first
# make results/report.html           everything in one HTML file, with pictures of the DAG
# make test                          the tests
# make test-faults                   the long ones: ten random kills a system, more damage, 2,000 damaged files a reader
# make bench                         every system beside its plain form, measured anew, one after the other
# make test-slurm                    the workflow on a Slurm of one node, which is fetched and started for it
#
# CORES=n sets the cores, TORCH_INDEX=url another build of torch, PYTHON=python3.11 the interpreter.
CORES ?= 2
PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)

.PHONY: all light test test-faults test-slurm lint ui data bench env
.DEFAULT_GOAL := all

all light: env
	$(SNAKEMAKE) $@

results/%: env
	$(SNAKEMAKE) $@

env: $(BIN)/.made

$(BIN)/.made: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),PIP_INDEX_URL=$(TORCH_INDEX) $(BIN)/pip install --quiet $$(grep '^torch==' requirements.lock))
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

test: env
	$(BIN)/python -m pytest -n $(CORES)

test-faults: env
	TEST_FAULTS=1 $(BIN)/python -m pytest -n $(CORES) tests/workflow/test_faults.py tests/unit/fuzz

test-slurm: env
	$(BIN)/python -m pytest tests/workflow/slurm

lint: env
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

data: env
	$(BIN)/python -m pipeline data

ui: env
	$(BIN)/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///results/mlflow.db}

bench: env
	$(SNAKEMAKE) --forceall results/benchmarks.json
	@cat results/benchmarks.log
