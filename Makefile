# Everything from a machine that has only Python 3.11 and make.
#   make install   .venv with recdistill (CPU), the offline encoders and the development tools
#   make demo      the whole flow on a planted world: table, report, MLflow
#   make test      the test suite
# TORCH says where torch comes from: on machines whose index serves CUDA builds for Linux, e.g.
#   make install TORCH="torch==2.13.0 --index-url <an index of CPU wheels>"

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
TORCH ?= torch==2.13.0
EXTRAS ?= cpu,offline,dev
OUT ?= runs/demo
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.recdistill-installed

.PHONY: install demo test lint clean
install: $(STAMP)

$(STAMP): pyproject.toml Makefile .ci/fbgemm_gpu_cpu/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 13) else "recdistill needs Python 3.11 or 3.12: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(TORCH)
	$(PIP) install --quiet .ci/fbgemm_gpu_cpu
	$(PIP) install --quiet --editable ".[$(EXTRAS)]"
	$(PIP) check
	@touch $@

demo: install
	$(VENV)/bin/recdistill run experiments/recipes/demo.yaml --out $(OUT)

test: install
	$(VENV)/bin/python -m pytest

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) runs build *.egg-info
