# make install   everything captiond needs, into .venv
# make run       serve on port 8000 with the sample settings
# make test      what must pass before a change lands
# make soak      every fault, its full count; hours; a table at the end
# make guards    each guard taken out, its test must fail
# make bench     figures of this machine
# make tags-report   how good and how quick the tags are
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TEST_PROCESSES ?= 3

.PHONY: install run test tests check soak guards bench tags-report clean

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

# The type checker runs beside the tests. Tests that start services wait much of their time, so
# there may be more test processes than cores.
test: install
	$(MAKE) --no-print-directory --jobs=2 check tests

tests: install
	$(BIN)/pytest --numprocesses=$(TEST_PROCESSES) --dist=loadgroup --no-loadscope-reorder

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

tags-report: install
	$(BIN)/python -m tools.tags_report --speed

clean:
	rm -rf $(VENV) build dist
