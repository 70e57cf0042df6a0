# make install       install captiond and everything that it needs into .venv
# make run           serve on port 8000 with the sample settings
# make test          what must pass before a change lands: make check and make tests, side by side
# make check         format, lint, types, import contracts
# make tests         all tests, in TEST_PROCESSES processes
# make soak          inject every fault its full number of times, and send thousands of requests that
#                    are made from the OpenAPI document; takes hours; prints a table
# make browser-check use the web pages in a real browser; needs Chromium (BROWSER=PROGRAM)
# make sidecar-check read what captiond writes into image files and XMP files with exiftool
# make guards        remove each guard; its test must fail (takes an hour; RESUME=--resume goes on)
# make bench         measure this machine
# make gpu-wheels    collect what a machine with a GPU and no package index lacks
# make gpu-rehearsal run the measurements of tools/gpu on this CPU, with small counts
# make audit         check the dependencies for known vulnerabilities; needs a network
# make tags-report   measure how good the tags are, and how long they take
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# More than cores: tests that start services wait much of their time.
TEST_PROCESSES ?= 3

.PHONY: install run test tests check soak browser-check sidecar-check guards bench gpu-wheels gpu-rehearsal audit tags-report clean

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

test: install
	$(MAKE) --no-print-directory --jobs=2 check tests

# The files of modules are compiled once, even if the environment says not to keep them.
tests: export PYTHONDONTWRITEBYTECODE =
tests: install
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=$(TEST_PROCESSES) --dist=loadscope --no-loadscope-reorder

soak: install
	rm -rf build/soak
	FAULT_SOAK=1 $(BIN)/pytest -s tests/faults tests/integration/test_schemathesis.py
	$(BIN)/python -m tests.faults.table

browser-check: export BROWSER ?= chromium
browser-check: install
	$(BIN)/pytest tests/browser/check_pages.py

sidecar-check: install
	$(BIN)/pytest tests/metadata/check_with_exiftool.py

guards: install
	$(BIN)/python -m tests.faults.guards $(RESUME)

bench: install
	$(BIN)/python -m tests.benchmarks.service
	$(BIN)/captiond bench
	$(BIN)/captiond bench --precision int8 --rounds 3
	$(BIN)/captiond bench --model captiond/scenes

gpu-wheels: install
	$(BIN)/python -m tools.gpu.wheels

gpu-rehearsal: install
	$(BIN)/python -m tools.gpu --device cpu --counts small

audit: install
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit
	$(BIN)/python -m tools.audit build/audit/bin/pip-audit

tags-report: install
	$(BIN)/python -m tools.tags_report --speed

clean:
	rm -rf $(VENV) build dist
