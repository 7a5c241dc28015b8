# What can be done from main; `make` alone lists it. Set PYTHON to use another Python than python3,
# and CPU=1 for PyTorch's build without a GPU, a fifth of the size.

PYTHON ?= python3
MODELS := $(notdir $(wildcard models/*))
VENV := .venv/bin/python
CPU_BUILD := https://download.pytorch.org/whl/cpu

.PHONY: help branches test test-full results diffs lint figures $(MODELS)
.NOTPARALLEL:

help:
	@echo "make <Name>      set up, check out the branch of a model and train it: $(MODELS)"
	@echo "make <Name> CPU=1   the same, with the small build of PyTorch, for machines without a GPU"
	@echo "make branches    cut or update the branches, one per model, from main"
	@echo "make diffs       count the lines that neighboring branches share"
	@echo "make test        run the tests, in minutes"
	@echo "make test-full   run the long trainings as well"
	@echo "make lint        check the style of the code"
	@echo "make results     train the runs missing from results.csv, and make README's tables from it"
	@echo "make site        build the course as a web page, in .site/html; it needs npm"
	@echo "make site-serve  build it and open it in a browser"
	@echo "make site-check  build it and look at every page in Chromium"
	@echo "make figures     copy and draw the pictures in models/<Name>/figures/"

# Both install into .venv only what is not there yet, and touch no network when nothing has changed.
install = @test -x .venv/bin/pip || $(PYTHON) -m venv .venv; \
	cmp -s $(1) .venv/$(1) || { $(VENV) -m pip install -r $(1) && cp $(1) .venv/; }

# torch and torchvision from the index of that build, before the rest finds them there.
ifdef CPU
cpu = test -x .venv/bin/pip || $(PYTHON) -m venv .venv; \
	$(VENV) -c "import torch" 2>/dev/null || \
	$(VENV) -m pip install torch torchvision --index-url $(CPU_BUILD) || \
	{ echo "make: PyTorch's build for CPUs cannot be fetched from $(CPU_BUILD);" \
		"without CPU=1, make takes the usual build" >&2; exit 2; }
endif

.PHONY: setup setup-dev
setup:
	@$(cpu)
	$(call install,requirements.txt)
setup-dev: setup
	$(call install,requirements-dev.txt)

branches:
	@$(PYTHON) branches.py

diffs:
	@$(PYTHON) branches.py --diffs

# branches.py exits with 1 where it left a branch alone, and says why: it has commits of its own, say.
$(MODELS):
	@$(PYTHON) branches.py || test $$? -eq 1
	@$(MAKE) --no-print-directory setup
	@advice="$$($(VENV) branches.py --after $@)" && git checkout $@ -- && \
		$(VENV) train.py && echo "$$advice"

test: setup-dev
	$(VENV) -m pytest -n auto

test-full: setup-dev
	$(VENV) -m pytest -n auto -m "slow or not slow"

lint: setup-dev
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check

results: setup
	$(VENV) results.py
	$(VENV) site/picture.py

figures: setup
	$(VENV) figures.py

# The site's packages, of which no branch and no test needs any, have an environment of their own.
SITE := .site/venv/bin/python

.PHONY: setup-site site site-serve site-check
setup-site:
	@test -x .site/venv/bin/pip || $(PYTHON) -m venv .site/venv
	@cmp -s requirements-site.txt .site/requirements-site.txt || \
		{ $(SITE) -m pip install -r requirements-site.txt && cp requirements-site.txt .site/; }

site: setup-site
	$(SITE) site/build.py

site-serve: setup-site
	$(SITE) site/build.py --serve

site-check: site
	$(SITE) site/check.py
