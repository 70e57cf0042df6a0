# make install   everything captiond needs, into .venv
# make run       serve on port 8000 with the sample settings
# make test      what must pass before a change lands
# make soak      every fault, its full count; hours; a table at the end
# make guards    each guard taken out, its test must fail
# make bench     figures of this machine
# make gpu-wheels      what captiond needs on a machine with a GPU and no package index
# make gpu-rehearsal   the measurements of tools/gpu, on this processor and with small counts
# make tags-report   how good and how quick the tags are
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install run test check soak guards bench gpu-wheels gpu-rehearsal tags-report clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

run: install
	$(BIN)/captiond serve --config captiond.toml

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/pytest

soak: install
	rm -rf build/soak
	FAULT_SOAK=1 $(BIN)/pytest -s tests/faults
	$(BIN)/python -m tests.faults.table

guards: install
	$(BIN)/python -m tests.faults.guards

bench: install
	$(BIN)/python -m tests.benchmarks.service
	$(BIN)/captiond bench
	$(BIN)/captiond bench --precision int8 --rounds 3
	$(BIN)/captiond bench --model captiond/scenes

gpu-wheels: install
	$(BIN)/python -m tools.gpu.wheels

gpu-rehearsal: install
	$(BIN)/python -m tools.gpu --device cpu --counts small

tags-report: install
	$(BIN)/python -m tools.tags_report --speed

clean:
	rm -rf $(VENV) build dist
