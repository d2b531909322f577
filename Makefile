# Every target sets up what it needs: a virtual environment with pinned tools, torch, and hierpool built in place.
# Needed beforehand: make, Python 3.10 or newer with its venv module, and a C++20 compiler (g++ 11, clang 14, newer).

PYTHON ?= python3
VENV ?= .venv
TORCH ?= 2.13.0
TRITON ?= 3.7.1
PIP_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
PYTEST_ARGS ?=
AOT_ARGS ?=
GPU_ARGS ?=
WHEEL_ARGS ?=
DOCS_PORT ?= 8000

BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
CONSTRAINTS := requirements/dev.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check
BUILD_INPUTS := pyproject.toml setup.py CMakeLists.txt python/hierpool/_version.py \
                $(shell find csrc -name '*.cpp' -o -name '*.h')
HAS_TRITON := $(filter Linux,$(shell uname -s))
CXX_FILES := $(shell find csrc tests/csrc -name '*.cpp' -o -name '*.h')
# Where setup.py builds the native library.
NATIVE_BUILD = build/native-$(shell $(BIN)/python -c 'import sys; print(sys.implementation.cache_tag)')
CTEST_ARGS := -j $(shell getconf _NPROCESSORS_ONLN) --output-on-failure --no-tests=error

.DELETE_ON_ERROR:
.PHONY: help demo test test-cpp test-py test-triton aot gpu bench docs docs-serve wheels wheels-test check format clean

help:  ## show this text
	@echo 'make TARGET [VARIABLE=VALUE ...]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-15s%s\n", $$1, $$2}'
	@echo
	@echo '  PYTHON=$(PYTHON)  VENV=$(VENV)  TORCH=$(TORCH)  TRITON=$(TRITON)'
	@echo '  TRITON       the version that belongs to TORCH: 3.6.0 to 2.11, 3.7.0 to 2.12, 3.7.1 to 2.13. On Linux only.'
	@echo '  PIP_ARGS     options for the pip command that installs torch. On Linux the default wheel brings several'
	@echo '               gigabytes of CUDA packages; --index-url with an index of CPU wheels avoids them.'
	@echo '  DEMO_ARGS, BENCH_ARGS, GPU_ARGS, AOT_ARGS, PYTEST_ARGS   further arguments for what their names say'

demo: $(STAMPS)/train  ## train on MUTAG with the fused operator and with PyG's, and compare
	$(BIN)/python -m hierpool demo $(DEMO_ARGS)

test: test-cpp test-py test-triton  ## run all tests: C++ (plain and under sanitizers), Python, Triton's interpreter

# A failed build must fail the tests, not skip those of the native backend.
test test-py bench: export HIERPOOL_REQUIRE_NATIVE := 1

# As many workers as processors, of one thread each.
test-py: $(STAMPS)/dev  ## run the Python tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

# The interpreter has to be chosen before triton is imported: a process of its own.
test-triton: $(STAMPS)/dev  ## run the tests of the operators on the Triton kernels, in Triton's interpreter
ifeq ($(HAS_TRITON),)
	@echo 'not run: the tests of the Triton kernels, as triton is for Linux only'
else
	TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/ops tests/kernels -n auto --dist worksteal $(PYTEST_ARGS)
endif

# Plain: on the objects of the library that the Python tests load. Under sanitizers: on a build of its own.
test-cpp: $(STAMPS)/dev  ## run the C++ tests, plain and under address and undefined-behaviour sanitizers
	$(BIN)/cmake --build $(NATIVE_BUILD) --target hp_tests
	$(BIN)/ctest --test-dir $(NATIVE_BUILD) $(CTEST_ARGS)
	$(BIN)/cmake -S . -B build/test-sanitize -GNinja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
	  -DHIERPOOL_SANITIZE=address,undefined
	$(BIN)/cmake --build build/test-sanitize --target hp_tests
	$(BIN)/ctest --test-dir build/test-sanitize $(CTEST_ARGS)

# The kernels also have to compile with the Triton of torch 2.11.
AOT_TRITON ?= 3.6.0
AOT = $(BIN)/python -m hierpool_kernels.aot --record bench/results/aot

aot: $(STAMPS)/dev $(if $(HAS_TRITON),build/triton-$(AOT_TRITON)/installed)  ## compile GPU kernels that changed; fail if one is worse than recorded
ifeq ($(HAS_TRITON),)
	@echo 'not run: the compilation of the Triton kernels, as triton is for Linux only'
else
	$(AOT) $(AOT_ARGS)
	PYTHONPATH=build/triton-$(AOT_TRITON) $(AOT) --targets sm_90 $(AOT_ARGS)
endif

build/triton-%/installed: | $(STAMPS)/venv
	$(PIP) install --no-deps --target $(@D) triton==$*
	@touch $@

gpu:  ## test and benchmark on this machine's CUDA device with PYTHON's own torch: no venv, no network, ten minutes
	PYTHONPATH=python:. $(PYTHON) -m bench gpu --tests $(GPU_ARGS)

bench: $(STAMPS)/bench  ## run the benchmarks and print the table
	$(BIN)/python -m bench run $(BENCH_ARGS)

docs: $(STAMPS)/docs  ## build the documentation site in build/docs; a warning is an error
	MPLBACKEND=agg $(BIN)/python -m sphinx -W --keep-going -b html docs build/docs

docs-serve: docs  ## build the documentation site and show it on http://127.0.0.1:DOCS_PORT
	$(BIN)/python -m http.server --directory build/docs --bind 127.0.0.1 $(DOCS_PORT)

RELEASE = $(BIN)/python tests/packaging/release.py

wheels: $(STAMPS)/dev  ## build the sdist and the wheels of a release in dist, and check the names they need of the system
	$(RELEASE) build

wheels-test: $(STAMPS)/dev  ## install each wheel of dist beside several versions of torch, without a compiler, and use it
	$(RELEASE) test --pip-args='$(PIP_ARGS)' $(WHEEL_ARGS)

check: $(STAMPS)/dev  ## check style, types, and that README.md and docs show the newest results
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)
	$(BIN)/mypy
	$(BIN)/python -m bench report --check
	$(BIN)/python -m bench poolers --check
	$(BIN)/python -m bench clusterings --check
	$(BIN)/python -m bench hard-poolers --check
	$(BIN)/python -m bench exchange --check
	$(BIN)/python -m bench accuracy --check

format: $(STAMPS)/dev  ## reformat Python and C++ files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

clean:  ## remove the virtual environment and everything built
	rm -rf $(VENV) build dist python/hierpool.egg-info python/hierpool/_build.json
	rm -rf docs/api docs/gallery docs/pooler docs/project
	rm -f python/hierpool/_hierpool_ops.so python/hierpool/_C*.so

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo 'Python 3.10 or newer is needed; name one with make PYTHON=...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) \
	  || { echo 'venv is missing; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/tools: $(CONSTRAINTS) | $(STAMPS)/venv
	$(PIP) install -c $(CONSTRAINTS) setuptools cmake ninja pybind11
	@touch $@

$(STAMPS)/torch-$(TORCH)-$(TRITON): | $(STAMPS)/venv
	$(PIP) install torch==$(TORCH) $(if $(HAS_TRITON),triton==$(TRITON)) $(PIP_ARGS)
	@rm -f $(STAMPS)/torch-*
	@touch $@

# One stamp for each extra: train, bench, docs, dev. The native build behind them is incremental. Tests compare with
# torch-geometric-pool; what it needs is there, but torch-scatter, in whose place the tests put a few lines of torch.
# The site takes MathJax from a package whose other files, of a server, it does not need.
$(STAMPS)/train $(STAMPS)/bench $(STAMPS)/docs $(STAMPS)/dev: $(BUILD_INPUTS) $(STAMPS)/tools $(STAMPS)/torch-$(TORCH)-$(TRITON)
	$(PIP) install -c $(CONSTRAINTS) --no-build-isolation -e '.[$(@F)]'
	$(if $(filter dev docs,$(@F)),$(PIP) install -c $(CONSTRAINTS) --no-deps torch-geometric-pool jupyter_server_mathjax)
	@touch $@
