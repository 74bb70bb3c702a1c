# make demo, make test: each makes what it needs, on a machine that has Python 3.11, 3.12 or 3.13 and nothing else.
# Where PyTorch comes from is found out (tools/torch_index.py); TORCH_INDEX=URL or TORCH_INDEX=pypi decides it.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c "" 2>/dev/null && { command -v $$p; break; }; done)
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
ARGS ?=
OUT ?= demo-report

.PHONY: demo test lint docs bench clean help

help:
	@echo "make demo   set up, teach from real photographs, prove it on four phone runtimes, open the report"
	@echo "make test   set up, run every check and test"
	@echo "make lint   ruff and mypy;  make bench  every benchmark;  make clean  remove .venv and reports"

demo: $(VENV)/demo.stamp
	$(BIN)/handful demo --out $(OUT) --open $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(VENV)/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open build/site/index.html"

bench: $(VENV)/dev.stamp
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

$(VENV)/demo.stamp: pyproject.toml constraints.txt tools/install.sh
	PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh tools/install.sh $(VENV) ".[demo]"
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp pyproject.toml constraints.txt
	PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh tools/install.sh $(VENV) ".[all,postgres,mysql,ray,tensorboard,supervision,docs]" faster-coco-eval hypothesis mypy pre-commit pytest pytest-timeout ruff
	@touch $@

clean:
	rm -rf $(VENV) $(OUT) bench-results build/site
