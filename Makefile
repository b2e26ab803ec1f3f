# Two commands: `make quickstart` shows a result, `make test` checks the project.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/quickstart
TESTERS ?= 2

.PHONY: help setup quickstart undesirable test fuzz faults cluster lint format reference benchmark clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(VENV)/.ready ## a virtual environment with everything

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "needs Python 3.11 or newer: make PYTHON=python3.11 ..."'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing (PyTorch is a large download) ..."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo,dev]'
# imagecorruptions-imaug and grad-cam bring other builds of opencv, in the same folder but without superpixels
	$(BIN)/python -m pip install --quiet -c constraints.txt --force-reinstall --no-deps opencv-contrib-python-headless
	@touch $@

quickstart: setup ## pack the demo, evaluate, aggregate, report
	$(BIN)/python -m jobs.demo
	$(BIN)/python -m jobs.evaluate experiment=quickstart out=$(OUT)
	$(BIN)/python -m jobs.aggregate out=$(OUT)

undesirable: setup ## which pixels stand in the true class's way
	$(BIN)/python -m jobs.demo
	$(BIN)/python -m jobs.undesirable experiment=undesirable_demo
	$(BIN)/python -m jobs.aggregate out=runs/undesirable

test: setup ## the default test suite, in TESTERS=2 processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --no-loadscope-reorder

fuzz: setup ## tens of thousands of made-up tars, images, settings and result files
	FUZZ=1 $(BIN)/python -m pytest tests/test_fuzz_data.py tests/test_fuzz_rows.py tests/test_fuzz_settings.py

faults: setup ## processes of real clusters are killed; takes a while
	$(BIN)/python -m pytest -m slow -s tests/test_faults.py

cluster: setup ## README's cluster on this machine: a head with a token, jobs sent to it; Slurm where it is installed
	$(BIN)/python -m pytest -m slow tests/test_ray_jobs.py tests/test_slurm.py

lint: setup ## ruff, pyright, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: setup ## ruff, with its fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: setup ## docs/reference.md, of conf and schemas
	$(BIN)/python -m docs.reference

benchmark: setup ## against the naive schedule, and what the host costs
	$(BIN)/python -m benchmarks.moxi --every 28
	$(BIN)/python -m benchmarks.host

clean: ## remove runs and packed data
	rm -rf runs data outputs multirun
