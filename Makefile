# Two commands on a fresh machine, `make demo` and `make test`; they need python3 (3.11 or newer, with venv) and make.
# Everything is installed into .venv, and again only when one of INSTALLED_BY has changed.
# A C compiler makes decoding faster, and is not needed (hatch_build.py).

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
SAMPLE ?= samples/astronaut.png
PICTURES ?= samples
INSTALLED_BY := pyproject.toml constraints.txt hatch_build.py $(wildcard latentcodec/kernel/*.[ch])
# A process a core, each with one thread of PyTorch (tests/conftest.py); four at most, for their memory.
# Compiled code is kept, also where PYTHONDONTWRITEBYTECODE is set: every process would compile all of it again.
PYTEST = PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal

.PHONY: help demo bench test test-all lint format clean release-checks
.DELETE_ON_ERROR:

help:
	@echo "make demo    compress a sample picture and set it beside JPEG and WebP (build/demo/)"
	@echo "make test    run the quick tests, 5 to 7 minutes on two cores"
	@echo "make test-all  run them, then the slow ones: searches, browsers, trained priors, fuzzing"
	@echo "make lint    ruff and mypy"
	@echo "make format  let ruff format the code"
	@echo "make bench   codecs compared on PICTURES=$(PICTURES): build/bench/report.html, some minutes"
	@echo "make release-checks  all that a release needs: every instruction set, the oldest dependencies; over an hour"
	@echo "make clean   remove .venv and build/"

demo: $(VENV)/installed-core
	@$(PY) -m benchmarks demo $(SAMPLE) --out build/demo

bench: $(VENV)/installed-bench
	@$(PY) -m benchmarks run $(PICTURES) --out build/bench --jobs 2

test: $(VENV)/installed-test
	@$(PYTEST) $(PYTEST_ARGS)

test-all: test
	@$(PYTEST) -m 'slow and not release and not network' $(PYTEST_ARGS)

lint: $(VENV)/installed-test
	@echo "ruff check";          $(PY) -m ruff check .
	@echo "ruff format --check"; $(PY) -m ruff format --check .
	@echo "mypy";                $(PY) -m mypy

format: $(VENV)/installed-test
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

release-checks:
	@.ci/release-checks

clean:
	rm -rf $(VENV) build

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "latentcodec needs Python 3.11 or newer; '$(PYTHON)' is not. Name another: make PYTHON=python3.12 ..."; \
		exit 1; }
	@echo "Making a virtual environment in $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) || { \
		rm -rf $(VENV); \
		echo "No virtual environment: '$(PYTHON)' lacks its venv module (Debian and Ubuntu: apt install python3-venv)."; \
		exit 1; }

# The stamps: installed-core holds the package itself, the others one extra each.
$(VENV)/installed-%: $(INSTALLED_BY) | $(PY)
	@echo "Installing latentcodec ($*) into $(VENV): PyTorch alone is some 200 MB, so the first time takes minutes"
	@$(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.$(if $(filter-out core,$*),[$*])'
	@touch $@
