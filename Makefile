# Everything a fresh machine needs is Python 3.11 to 3.13 with venv, and make.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
TEST_WORKERS ?= 3# test processes: many wait; 0 runs the tests in one
TEST_FLAGS ?=# for example TEST_FLAGS="-k decay"
KUBECONFIG ?=# of a disposable cluster, for test-cluster and record-cluster
IMAGE_ON_NODES ?=# image that the nodes of that cluster have
RECORDINGS ?= recordings# where record-cluster writes
RUNS ?=# identifiers of the runs that it records
BENCH_FLAGS ?=# for example BENCH_FLAGS="arm --repetitions 1"; make bench BENCH_FLAGS=--help
LOCK_FLAGS ?=# for example LOCK_FLAGS=--upgrade

ENGINE ?=# docker, podman or buildah; the first of them that works
IMAGE ?= optduel# name of the images, with the registry that they will be pushed to
TAG ?=# first part of their tags, before -cpu and -gpu; the commit
TARGETS ?= cpu gpu# which images
BASE ?=# another base image than the one that images/Dockerfile pins
BUILD_FLAGS ?=# further arguments of the engine, for example BUILD_FLAGS="--platform linux/amd64"

LOCKS := images/requirements-build.txt requirements-dev.txt
STAMP := $(VENV)/.installed

# The first interpreter that runs and is recent enough; version managers leave names in PATH that do not run.
SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	"$$name" -c '$(SUPPORTED)' >/dev/null 2>&1 && echo "$$name" && break; done)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

.PHONY: demo
demo: $(STAMP) ## compare two optimizers on handwritten digits, from nothing to the report
	$(BIN)/optduel run digits

# Files go to the processes whole and the long ones first. Compiled modules are kept even where the shell says
# otherwise: hundreds of processes start.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(STAMP) ## run the tests: under ten minutes on two cores
	$(PYTEST) $(TEST_FLAGS)

.PHONY: test-all
test-all: $(STAMP) ## run the tests that "test" leaves out, too
	$(PYTEST) -m "" $(TEST_FLAGS)

.PHONY: test-cluster
test-cluster: $(STAMP) ## run the tests of a real cluster: KUBECONFIG=FILE, and IMAGE_ON_NODES for runs
	OPTDUEL_TEST_KUBECONFIG="$(KUBECONFIG)" OPTDUEL_TEST_IMAGE="$(IMAGE_ON_NODES)" \
		$(BIN)/python -m pytest -m "" $(TEST_FLAGS) tests/cluster/control_plane

.PHONY: record-cluster
record-cluster: $(STAMP) ## record what a real Kubeflow Pipelines answers: KUBECONFIG=FILE RUNS="ID ..."
	OPTDUEL_TEST_KUBECONFIG="$(KUBECONFIG)" $(BIN)/python -m tests.cluster.control_plane.kubeflow_pipelines \
		"$(RECORDINGS)" $(RUNS)

.PHONY: coverage
coverage: $(STAMP) ## run all tests and print which branches none of them takes
	$(BIN)/coverage erase
	$(subst python -m,coverage run -m,$(PYTEST)) -m "" $(TEST_FLAGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: bench
bench: $(STAMP) ## measure against Keras, PyTorch and the tutorial; needs OPTDUEL_FLOWERS_ARCHIVE
	$(BIN)/python -m tests.benchmarks $(BENCH_FLAGS)

.PHONY: check
check: $(STAMP) ## run the linter, the type checker and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: audit
audit: $(STAMP) ## look for known vulnerabilities and secrets; list what the images hold, in dist/
	.ci/audit $(BIN)

.PHONY: format
format: $(STAMP) ## format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: install
install: $(STAMP) ## set up the virtual environment

# Its packages ask for older versions of ours, hence apart.
.PHONY: mlflow
mlflow: $(VENV)/mlflow/.installed ## set up an MLflow server for the tests of the hand-over, which skip without

$(VENV)/mlflow/.installed: requirements-mlflow.txt $(STAMP)
	"$(PYTHON)" -m venv --clear $(VENV)/mlflow
	$(VENV)/mlflow/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

.PHONY: python
python: ## check that a suitable Python is there
	@"$(PYTHON)" -c '$(SUPPORTED)' >/dev/null 2>&1 || { \
		echo "optduel needs Python 3.11, 3.12 or 3.13 with venv; found $(or $(PYTHON),none)." \
		"Install one (on Debian 12: apt-get install python3 python3-venv)" \
		"or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }

# Dependencies come with hashes and without resolution; the build tools first, because a few have no wheel.
$(STAMP): $(LOCKS) pyproject.toml
	@test -x $(BIN)/python || { $(MAKE) python && echo "Creating $(VENV) with $(PYTHON)" >&2 \
		&& "$(PYTHON)" -m venv --clear $(VENV); }
	@echo "Installing about 150 packages into $(VENV): one to two minutes" >&2
	$(BIN)/python -m pip install --require-hashes --no-deps -r images/requirements-build.txt
	$(BIN)/python -m pip install --require-hashes --no-deps --no-build-isolation -r requirements-dev.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK_FLAGS)

$(BIN)/uv:
	$(MAKE) install

.PHONY: lock
lock: $(BIN)/uv ## lock the requirements again; needs a package index
	$(COMPILE) --extra cpu --group dev --output-file requirements-dev.txt
	$(COMPILE) --extra cpu --constraints requirements-dev.txt --overrides images/left-out.txt \
		--output-file images/requirements-cpu.txt
	$(COMPILE) --extra gpu --constraints requirements-dev.txt --overrides images/left-out.txt \
		--output-file images/requirements-gpu.txt
	$(BIN)/uv pip compile --group build --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK_FLAGS) \
		--constraints requirements-dev.txt --output-file images/requirements-build.txt
	$(BIN)/uv pip compile --group mlflow --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK_FLAGS) \
		--output-file requirements-mlflow.txt

.PHONY: images
images: ## build the container images with docker, podman or buildah
	@ENGINE="$(ENGINE)" IMAGE="$(IMAGE)" TAG="$(TAG)" BASE="$(BASE)" BUILD_FLAGS="$(BUILD_FLAGS)" \
		bash images/build.sh $(TARGETS)

.PHONY: clean
clean: ## remove the virtual environment and all caches; results of runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
