# One environment, pinned; every command below brings it up to date first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Ray starts many Python processes: without compiled bytecode each of them compiles torch and mlflow anew.
unexport PYTHONDONTWRITEBYTECODE
# Ray would rebuild an environment for every worker under `uv run`; ours is already the right one.
export RAY_ENABLE_UV_RUN_RUNTIME_ENV = 0

# Small arrays: a thread for each core costs more than it brings, and two processes test at once.
test minimum soak: export OMP_NUM_THREADS = 1

.PHONY: demo test minimum soak check same bench lock clean

$(READY): requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -oE '^uv==[0-9.]+' requirements.txt)"
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.txt
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python --editable .
	touch $@

demo: $(READY)  ## train, aggregate and compare on real digits, three to four minutes on two cores
	$(BIN)/sweep run experiments/digits.yaml

test: $(READY)  ## everything, with a real Ray and a real MLflow, on two processes
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Old packages warn of each other, which is no error here as it is in the other tests.
minimum: $(READY)  ## hardness with the oldest packages that pyproject.toml allows, 10 minutes on two cores
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/minimum
	$(BIN)/uv pip install --quiet --resolution lowest-direct --python build/minimum/bin/python --group dev --editable .
	build/minimum/bin/pytest -n 2 -W default tests/hardness

soak: $(READY)  ## 60 cells under random faults, on two nodes and a tracking server, 6 to 25 minutes on two cores
	SOAK_CELLS=60 $(BIN)/pytest -s "tests/sweep/execution/test_soak.py::test_a_soak"

check: $(READY)  ## format, lint, types, and which module may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

same: $(READY)  ## the same runs and tables, byte for byte, as at another revision: make same BASE=main~1
	$(BIN)/python -m tests.same_numbers $(BASE)

bench: $(READY)  ## cost of recording, of the loop, of passes, of scheduling and of aggregation
	$(BIN)/python -m tests.benchmarks

lock: $(READY)  ## compile requirements.txt anew from pyproject.toml
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--group dev pyproject.toml --output-file requirements.txt

clean:
	rm -rf $(VENV) build *.egg-info
