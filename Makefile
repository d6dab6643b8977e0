# Every target makes what it needs; each works as the only command on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test soak check format bench clean

setup: $(READY)

# pip refuses --constraint files that name hosts; ours names versions only.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[serve,cluster,quantise,onnx,s3]" --group dev
	touch $@

demo: $(READY)
	$(BIN)/cxrtriage demo --out demo

# One thread a process: two that share two processors wait for each other more than they work. Three processes, since
# many tests wait for a node, a peer or a browser.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile -m "not slow and not gpu"

soak: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_rooms.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group peers
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo
