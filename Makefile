# make test: environment, lint and tests.  make test-all: those, then the slow ones and the exported files.
# make report: the whole report.  make lab: JupyterLab.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
EXPORT := $(VENV)/.ready-export
EXTRAS ?= notebooks,download,app,test
# two workers of one thread each on two cores; the tests of a file share its fixtures
PYTEST := PYTHONWARNDEFAULTENCODING=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile --max-worker-restart 0

.PHONY: test test-all lint report lab rafdb fuzz torture

$(READY): pyproject.toml requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --editable ".[$(EXTRAS)]"
	touch $@

# ONNX, OpenVINO and what else the tests of exported files need
$(EXPORT): $(READY)
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --editable ".[export]"
	touch $@

test: $(READY) lint
	$(PYTEST) -m "not slow"

test-all: $(EXPORT) test
	$(PYTEST) -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest tests/test_links.py

# DATA and PRESET choose another face set and model size: make report DATA=data/raf-basic PRESET=small
report: $(READY)
	$(BIN)/python -m poster_ada.report $(if $(DATA),--data $(DATA)) $(if $(PRESET),--preset $(PRESET))

# root, often a container's only user, has to ask for it
lab: $(READY)
	GOMP_SPINCOUNT=1000 $(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root)

# what to run on the day RAF-DB arrives: make rafdb DATA=data/raf-basic
rafdb: $(READY)
	$(BIN)/python -m poster_ada.rafdb $(if $(DATA),--data "$(DATA)")

# 2,000 broken pictures, label files and checkpoints; 50 killed trainings: minutes each, so not part of `make test`
fuzz: $(READY)
	$(BIN)/python tests/fuzz/run.py

torture: $(READY)
	$(BIN)/python tests/torture/run.py
