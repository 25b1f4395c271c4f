PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
EXTRAS = cpu,offline,data,cluster,export,dev
PAGES =

SHELL = /bin/bash
.SHELLFLAGS = -eu -o pipefail -c
.DEFAULT_GOAL = help
.PHONY: help setup demo test unit check-notebooks lint format notebooks test-colab bench clean

help: ## list the targets
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make .venv with everything the project needs (again only when pyproject.toml changed)

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	$(BIN)/python -c "import matplotlib.font_manager"
	touch $@

demo: setup ## retrain VGG-16 on the sample, judge it, save it, use it
	VGGNB_PROFILE=quick VGGNB_WEIGHTS=offline $(BIN)/vggnb run

test: lint unit check-notebooks ## all checks

unit: setup ## the unit tests and the twin checks of the notebooks
	home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT; \
	VGGNB_HOME="$$home" VGGNB_PROFILE=quick VGGNB_WEIGHTS=offline \
	$(BIN)/python -m pytest -m "not browser and not network"

check-notebooks: setup ## run every page again and compare every output (notebooks/conftest.py sets the scene)
	$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout 600 \
		--nbval-sanitize-with tests/nbval_sanitize.cfg $(sort $(wildcard notebooks/*.ipynb))

COLAB_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13.*/bin/python) python3.13)

.venv-colab/.installed: tests/colab/runtime.txt tests/colab/tools.txt
	test -x .venv-colab/bin/python || $(COLAB_PYTHON) -m venv .venv-colab
	.venv-colab/bin/python -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$^)
	touch $@

test-colab: .venv-colab/.installed ## the quick unit tests and every page on the versions that Colab has (Python 3.13)
	home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT; \
	export PYTHONPATH="$(CURDIR)" VGGNB_HOME="$$home" VGGNB_PROFILE=quick VGGNB_WEIGHTS=offline; \
	.venv-colab/bin/python -m pytest -W ignore::DeprecationWarning -m "not browser and not network and not slow"; \
	.venv-colab/bin/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 600 \
		$(sort $(wildcard notebooks/*.ipynb))

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## ruff: mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: setup ## make the .ipynb from their .py twins and run them in the quick profile (PAGES="05 06": only these)
	$(BIN)/python notebooks/build.py $(PAGES)

bench: setup ## print every table of benchmarks/
	for script in benchmarks/*.py; do $(BIN)/python "$$script"; done

clean: ## remove caches and builds (rm -rf .venv as well for a fresh environment)
	rm -rf build dist .pytest_cache .ruff_cache notebooks/.ipynb_checkpoints
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
