# make book | test | bench | record | clean: each sets itself up. Variables:
#   PROFILE=smoke | cpu | paper          what the notebooks compute (book, record)
#   PARAMS="-p eta 4 -p seed 1"          notebook parameters or fields of the profile (book, record)
#   PYTHON=python3.12                    the Python that makes .venv (3.11 or newer)
#   CPU=1                                install no CUDA libraries (see README.md)

PYTHON ?= python3
PROFILE ?= smoke
PARAMS ?=
CPU ?=

BIN := .venv/bin
READY := .venv/ready
SOURCE := _build/source
HTML := _build/html

# Waiting threads sleep: several processes on few cores otherwise slow each other down many times over.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: book test bench record clean setup

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "Setting up .venv"
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@grep -vE '$(if $(CPU),^(nvidia|cuda|triton)-?,^$$)' requirements.lock > .venv/requirements.lock
	@echo "Installing packages: about $(if $(CPU),2 GB and 2,6 GB and 4) minutes the first time"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r .venv/requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -c "$$COPY_MATHJAX"
	@touch $@

# The pages show formulas without a network: MathJax and its fonts are served from the book itself.
define COPY_MATHJAX
import importlib.metadata, pathlib, shutil
for file in importlib.metadata.files("sphinx-mathjax-offline"):
    inside = str(file).partition("static/mathjax/")[2]
    if inside == "tex-mml-chtml.js" or inside.startswith("output/chtml/fonts/woff-v2/"):
        target = pathlib.Path("book/_static/mathjax", inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.locate(), target)
endef
export COPY_MATHJAX

# The pages are built from a staging folder, so that the working tree keeps its notebooks as they are.
book: export SFTGAN_COMMAND ?= make book PROFILE=$(PROFILE)$(if $(PARAMS), PARAMS="$(PARAMS)")
book: $(READY)
	@mkdir -p $(SOURCE)/book $(SOURCE)/figures
	@find $(SOURCE)/book $(SOURCE)/figures -type f ! -name status.md -delete
	@tar --exclude=book/status.md -cf - _config.yml _toc.yml index.md book figures | tar -xf - -C $(SOURCE)
	@echo "Executing the notebooks, profile $(PROFILE)"
	@$(BIN)/sftgan run --profile $(PROFILE) --out $(SOURCE) $(PARAMS)
	@digest=$$(cd $(SOURCE) && find . $(CURDIR)/sftgan -path ./_build -prune -o -name __pycache__ -prune \
	    -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum); \
	if [ -f $(HTML)/index.html ] && [ "$$digest" = "$$(cat _build/html.digest 2>/dev/null)" ]; then \
	    echo "The pages are up to date"; \
	else \
	    echo "Building the pages"; \
	    $(BIN)/jupyter-book build $(SOURCE) --path-output . -W -n --keep-going --all -q \
	        && echo "$$digest" > _build/html.digest; \
	fi
	@echo "Open $(CURDIR)/$(HTML)/index.html in a browser"

test: $(READY)
	@echo "Checking the code"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/pydoclint --quiet sftgan
	@$(BIN)/lint-imports
	@echo "Running the examples of the docstrings"
	@$(BIN)/python -m pytest --quiet --doctest-modules sftgan
	@echo "Running the tests, then every notebook against its committed outputs"
	@$(BIN)/python -m pytest -n 2 --dist loadfile --nbval tests notebooks

# Everybody in turn on one thread: needs a machine that does nothing else.
bench: export SFTGAN_COMMAND ?= make bench
bench: export OMP_NUM_THREADS := 1
bench: $(READY)
	@mkdir -p _build
	@$(BIN)/python -m pytest benchmarks -q --timeout=0 --benchmark-columns=median,min,rounds \
	    --benchmark-json=_build/benchmarks.json
	@$(BIN)/python benchmarks/report.py _build/benchmarks.json
	@echo "Tables and figures are in figures/benchmarks; the page is book/performance.md"

record: export SFTGAN_COMMAND ?= make record PROFILE=$(PROFILE)$(if $(PARAMS), PARAMS="$(PARAMS)")
record: $(READY)
	@$(BIN)/sftgan record --profile $(PROFILE) $(PARAMS)
	@$(BIN)/sftgan claims

# What was computed (the cache of the study) stays; .venv goes with `rm -r .venv`.
clean:
	rm -rf _build build book/_static/mathjax .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -f $(READY)
