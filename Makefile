# Everything is set up by the two commands that a stranger needs: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# Options for installing torch alone, for example the CPU index that pytorch.org names. Plain PyPI works, with CUDA's weight.
TORCH_PIP_OPTIONS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-boards test-long check format benchmarks clean

demo: $(VENV)/.ready
	$(BIN)/python examples/digits/train.py
	$(BIN)/edgeopt deploy examples/digits/digits.py:build --data examples/digits/digits.py:samples \
	  --target local --max-drop 1% --app digits --effort quick --html demo-report.html

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-boards: $(VENV)/.ready
	$(BIN)/python -m pytest -m 'boards and not long' -n 2 --dist loadfile

test-long: $(VENV)/.ready
	$(BIN)/python -m pytest -m long

check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vermin --target=3.6- --violations --no-tips --eval-annotations runners

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmarks: $(VENV)/.ready
	$(BIN)/python benchmarks/all.py

# torch first: a later resolution must find it satisfied, or it would fetch the newest CUDA build.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH_PIP_OPTIONS) torch
	$(PIP) -e '.[torch,postgresql,demo,dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-report.html examples/digits/digits.pt
