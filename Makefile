# Needs only Python >= 3.11 with venv, make, and a package index. Another interpreter: make test PY=python3.12
PY ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
# make gpu GPU_PYTHON=python3 takes the machine's own environment, with its own CUDA build of torch, instead of $(VENV).
GPU_PYTHON ?= $(BIN)/python
GPU_READY = $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(READY))
GPU_RUN = env -u TRITON_INTERPRET PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(GPU_PYTHON)
GPU_TESTS ?= tests/interpreted
GPU_OPTIONS ?= $(if $(QUICK),--quick)
PRESET ?= default
SEED ?= random
EXTRAS ?=
# A process for every core, each on one thread; neighbouring tests stay with one process, so that the fixtures of a file are made once.
TESTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal
DIST ?= .venv-dist

.PHONY: help demo gallery study test fuzz check examples docs kernels bench gpu dist clean

help:
	@echo "make demo      store, damage and recall real images with every energy; pictures in out/demo"
	@echo "make gallery   every figure of the analysis floor, in out/gallery"
	@echo "make test      the tests"
	@echo "make fuzz      thousands of random specs, shapes, dtypes, masks and backends against the definition; SEED=1 repeats"
	@echo "make check     lint and types"
	@echo "make examples  run every example"
	@echo "make docs      the book, as a site that needs no network: out/site/index.html"
	@echo "make kernels   compile the kernels for a GPU (none is needed): registers, spills, shared memory; KERNELS=--subset for a few"
	@echo "make bench     measure against the peers; results in benchmarks/results"
	@echo "make study     how many bits models memorise, eight minutes on 2 idle cores; records in out/study. PRESET=tiny, large"
	@echo "make gpu       on a GPU: test the kernels compiled, measure them against the peers; docs/performance.md. QUICK=1, GPU_PYTHON=python3"
	@echo "make dist      wheel and sdist in dist/, the wheel installed into an environment of its own and tried there; EXTRAS=[hf,analysis]"
	@echo "make clean     remove the environment and everything generated"

# The stamp is written last, so that an interrupted installation is done again. An extra without packages for this Python does not stop the others.
$(READY): pyproject.toml constraints.txt Makefile
	@$(PY) -c "import sys; sys.version_info >= (3, 11) or sys.exit('hopfield_amem needs Python 3.11 or newer: make PY=python3.11')"
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,hf]"
	@for extra in analysis ann cluster docs; do \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$$extra]" || \
	echo "The extra '$$extra' could not be installed here: what needs it is left out, and its tests are skipped."; done
	@touch $@

demo: $(READY)
	$(BIN)/hopfield-amem demo

gallery: $(READY)
	$(BIN)/python examples/gallery.py --full

# Triton decides when it is imported whether kernels are interpreted, so that their tests need a process of their own.
test: $(READY)
	$(TESTS)
	@! $(BIN)/python -c "import triton" 2>/dev/null || TRITON_INTERPRET=1 $(TESTS) tests/interpreted

# Other cases each time; pytest prints the seed, and for every failure what repeats it.
fuzz: $(READY)
	$(TESTS) --hypothesis-profile=nightly --hypothesis-seed=$(SEED) tests/test_fuzz.py tests/test_fuzz_uses.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Two at a time, on one thread each; what a program says comes in one piece.
examples: $(READY)
	@ls examples/*.py examples/papers/*.py | OMP_NUM_THREADS=1 xargs -n 1 -P 2 sh -c \
	'said=$$($(BIN)/python "$$0" 2>&1); ended=$$?; printf "== %s\n%s\n" "$$0" "$$said"; exit $$ended'

# Every link is checked: a broken one fails. The variables silence advertisements of the tools.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict
	@echo "out/site/index.html"

kernels: $(READY)
	$(BIN)/python benchmarks/kernels.py $(KERNELS)

bench: $(READY)
	$(BIN)/python benchmarks/retrieve.py
	$(BIN)/python benchmarks/associate.py
	$(BIN)/python benchmarks/layers.py
	$(BIN)/python benchmarks/feedforward.py
	$(BIN)/python benchmarks/huggingface.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/networks.py
	$(BIN)/python benchmarks/binary.py
	$(BIN)/python benchmarks/structured.py
	$(BIN)/python benchmarks/capacity.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/memorization.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/streamed.py

# Cut short, it goes on where it stopped.
study: $(READY)
	$(BIN)/hopfield-amem memorize --preset $(PRESET) --out out/study

# The benchmark runs even where a test fails, so that one run on a GPU gives both answers; either failing fails the target.
gpu: $(GPU_READY)
	@$(GPU_RUN) benchmarks/gpu.py check
	@processes=$$($(GPU_RUN) -c "import xdist" 2>/dev/null && echo "-n 8"); \
	$(GPU_RUN) -m pytest $$processes $(GPU_TESTS); tests=$$?; \
	$(GPU_RUN) benchmarks/gpu.py $(GPU_OPTIONS) && $(GPU_RUN) benchmarks/associate.py $(GPU_OPTIONS) && exit $$tests

# The smoke test is copied away, so that it sees the installed package and not this folder.
dist: $(READY)
	rm -rf dist build $(DIST)
	$(BIN)/python -m build
	$(PY) -m venv $(DIST)
	$(DIST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(ls dist/*.whl)$(EXTRAS)"
	cp tests/smoke.py $(DIST)/smoke.py
	cd $(DIST) && bin/python smoke.py

clean:
	rm -rf $(VENV) $(DIST) dist build out *.egg-info .pytest_cache .ruff_cache .hypothesis
