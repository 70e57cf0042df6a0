# make install       install captiond and everything that it needs into .venv; may be interrupted
# make tools         install the tools of tests and checks as well
# make run           serve on port 8000 with the sample settings
# make test          what must pass before a change lands: make check and make tests, side by side
# make check         format, lint, types, import contracts
# make tests         all tests, in TEST_PROCESSES processes
# make soak          inject every fault its full number of times, and send thousands of requests that
#                    are made from the OpenAPI document; takes hours; prints a table
# make browser-check use the web pages in a real browser; needs Chromium (BROWSER=PROGRAM)
# make sidecar-check read what captiond writes into image files and XMP files with exiftool
# make picture-check compare what captiond decodes with what viewers show, by colour; needs
#                    ImageMagick 6, libvips, and the encoders of AVIF, HEIC and JPEG XL
# make metrics-check run the queries of config/prometheus and config/grafana in a real Prometheus;
#                    needs prometheus and promtool (PROMETHEUS=PROGRAM PROMTOOL=PROGRAM)
# make ray-check     run captiond on a real Ray of this machine, which takes some minutes
# make guards        remove each guard; its test must fail (takes an hour; RESUME=--resume goes on)
# make bench         measure this machine
# make gpu-wheels    collect what a machine with a GPU and no package index lacks
# make gpu-rehearsal run the measurements of tools/gpu on this CPU, with small counts
# make image-check   build the container image, and use it; needs root, buildah and debootstrap
# make packages-check  check the wheel, the systemd unit, and the examples in config/ with the tools
#                    that read them; needs nginx, caddy, docker-compose and systemd
# make audit         check the dependencies for known vulnerabilities; needs a network
# make tags-report   measure how good the tags are, and how long they take
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_WITH_TOOLS := $(VENV)/.installed-dev
# A number, or auto: what tests/conftest.py chooses by the cores and the memory.
TEST_PROCESSES ?= auto
# Seconds. A test that waits forever fails, and the stacks of its threads are shown.
TEST_TIMEOUT ?= 900

.PHONY: install tools run test tests check soak browser-check sidecar-check picture-check metrics-check ray-check guards bench gpu-wheels gpu-rehearsal image-check packages-check audit tags-report clean

# An environment whose creation was interrupted has no pip.
MAKE_VENV = $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
# pip would compile all modules on one core, which is half of the time of an installation.
PIP_INSTALL = $(BIN)/python -m pip install --no-compile --constraint constraints.txt --editable
# Some packages have templates that are no modules.
COMPILE = $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true

install: $(INSTALLED)

tools: $(INSTALLED_WITH_TOOLS)

$(INSTALLED): pyproject.toml constraints.txt
	$(MAKE_VENV)
	$(PIP_INSTALL) .
	$(COMPILE)
	touch $@

# What tests import is compiled when it is imported, which is a small part of all tools.
$(INSTALLED_WITH_TOOLS): pyproject.toml constraints.txt
	$(MAKE_VENV)
	$(PIP_INSTALL) '.[dev]'
	touch $(INSTALLED) $@

run: install
	$(BIN)/captiond serve --config captiond.toml

check: tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: tools
	$(MAKE) --no-print-directory --jobs=2 check tests

# The files of modules are compiled once, even if the environment says not to keep them.
tests: export PYTHONDONTWRITEBYTECODE =
tests: tools
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=$(TEST_PROCESSES) --dist=loadscope --no-loadscope-reorder --timeout=$(TEST_TIMEOUT)

soak: tools
	rm -rf build/soak
	FAULT_SOAK=1 $(BIN)/pytest -s tests/faults tests/nodes tests/model tests/integration/test_schemathesis.py
	$(BIN)/python -m tests.faults.table

browser-check: export BROWSER ?= chromium
browser-check: tools
	$(BIN)/pytest tests/browser/check_*.py

sidecar-check: tools
	$(BIN)/pytest tests/metadata/check_with_exiftool.py

picture-check: tools
	$(BIN)/pytest -s tests/pictures/check_by_colour.py

metrics-check: export PROMETHEUS ?= prometheus
metrics-check: export PROMTOOL ?= promtool
metrics-check: tools
	$(BIN)/pytest tests/monitoring/check_metrics.py

ray-check: tools
	$(BIN)/pytest tests/ray/check_*.py

guards: tools
	$(BIN)/python -m tests.faults.guards $(RESUME)

bench: tools
	$(BIN)/python -m tests.benchmarks.service
	$(BIN)/captiond bench
	$(BIN)/captiond bench --precision int8 --rounds 3
	$(BIN)/captiond bench --model captiond/scenes

gpu-wheels: tools
	$(BIN)/python -m tools.gpu.wheels

gpu-rehearsal: tools
	$(BIN)/python -m tools.gpu --device cpu --counts small

image-check: tools
	$(BIN)/python -m tools.image.check Dockerfile.cpu

packages-check: export PACKAGES = build/packages/bin
packages-check: tools
	$(PYTHON) -m venv build/packages
	$(PACKAGES)/python -m pip install --quiet build twine kubernetes-validate 'cyclonedx-python-lib[json-validation]' grafana-foundation-sdk
	$(BIN)/pytest tests/packages/check_*.py

audit: tools
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit
	$(BIN)/python -m tools.audit build/audit/bin/pip-audit

tags-report: tools
	$(BIN)/python -m tools.tags_report --speed

clean:
	rm -rf $(VENV) build dist
