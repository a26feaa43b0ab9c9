# Everything needs only Python 3.11 or 3.12 and access to the Python package index.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-out

# the many processes would each compile again what they import
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test types test-fast test-slow lint bench miniature clean

demo: $(READY)  ## the whole DAG on made data: ingest, label, release, train, generate, report
	$(BIN)/dimo demo --out $(OUT)

test: $(READY)  ## lint, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory --jobs=2 types test-fast

types: $(READY)
	$(BIN)/mypy

# two processes on two cores: one thread each, and Ray's workers, which stand back as a rule, get their share
test-fast: $(READY)
	OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(READY)  ## fix what can be fixed, check the rest
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

SIZE ?= smoke
ARMS ?= full,same_view_only,no_geometry,channel_concat
SEEDS ?= 1

miniature: $(READY)  ## does the method learn? arms of 3DiMo in a small world: make miniature SIZE=cpu ARMS=all SEEDS=3
	$(BIN)/python -m opendimo.training.miniature --size $(SIZE) --arms $(ARMS) --seeds $(SEEDS) --out miniature-out

bench: $(READY)  ## side-by-side benchmarks; they print ratios and assert nothing
	$(BIN)/python -m tests.benchmarks

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
