# make setup | demo | test | test-runtimes | lint | lock | benchmark
# The environment is .venv, with the exact versions of requirements.lock; a second call installs nothing. The lock is
# whole, so nothing is resolved: openai-whisper asks for triton, which only a GPU uses.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test test-runtimes lint lock benchmark clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "whispertune needs Python 3.11 or later: make PYTHON=python3.12 setup"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	$(BIN)/python -m demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Three processes of a thread each, on two cores too: many tests wait for processes of their own. In the order of their
# files: by the number of their tests, as is the default, those that start whole clusters would come last and alone.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE KMP_BLOCKTIME=0 \
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST) --ignore tests/runtimes

# What others decode exports with, and the Space in a browser: heavier, and only of interest to model/formats and publish.
test-runtimes: setup
	$(PYTEST) --numprocesses auto tests/runtimes

# Both trainings in one run, on data that is not part of the project: make benchmark ARGS="--train DIR --dev DIR"
benchmark: setup
	$(BIN)/python -m benchmarks.training $(ARGS)

# Rewrites requirements.lock from what is installed; on purpose, never as part of anything else.
lock: setup
	$(BIN)/pip freeze --all --exclude-editable --exclude pip | sed 's/^torch==\([0-9.]*\).*/torch==\1/' > requirements.lock

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache demo-run
