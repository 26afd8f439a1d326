# make run     install what serving and training need, serve on http://127.0.0.1:8000
# make test    install the development tools too, run the tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.dev-ready
INSTALL = $(UV) pip install --quiet --python $(BIN)/python --constraint requirements.lock

# Also a certificate authority that only this machine trusts.
export UV_SYSTEM_CERTS ?= 1

# TORCH_BACKEND=cpu, cu130, ... chooses the build of torch, see `uv pip install --help`; empty takes the
# default index's. Without it, Linux without a GPU takes the CPU build if its index answers in 3 seconds.
ifeq ($(origin TORCH_BACKEND),undefined)
GPU = $(wildcard /dev/nvidia*)$(shell command -v nvidia-smi)
TORCH_BACKEND = $(if $(GPU)$(filter Darwin,$(shell uname)),,$(shell $(TRY_CPU_BUILD)))
TRY_CPU_BUILD = UV_HTTP_CONNECT_TIMEOUT=3 UV_HTTP_TIMEOUT=3 UV_HTTP_RETRIES=0 \
	$(INSTALL) --dry-run --no-deps --reinstall-package torch --torch-backend cpu torch 2>/dev/null && echo cpu
endif

# Other model servers that `python -m benchmarks.serving` measures beside perceptd.
PEERS := litserve bentoml mlserver mosec ray

.PHONY: run test lint format docs lock checkpoints wheel torch-backend bench bench-peers clean

run: $(READY)
	$(BIN)/perceptd serve

# More processes than cores, as tests also wait; a thread each, as more would wait for each other. In
# the order of the folders, no long file is left for the end. Processes that tests start share bytecode.
test: export OMP_NUM_THREADS := 1
test: export PYTHONDONTWRITEBYTECODE :=
test: $(DEV_READY)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: $(DEV_READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(DEV_READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The manual as a site, in site/, to be put on any server; `mkdocs serve` is one. It asks no other host.
docs: $(DEV_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Train the shipped checkpoints anew; MNIST is read from PERCEPTD_MNIST_DIR or downloaded.
checkpoints: $(READY)
	rm -rf models/pretrained/*
	$(BIN)/perceptd train all --out models/pretrained
	$(BIN)/perceptd describe > models/pretrained/trainable.json

# MNIST is read from PERCEPTD_MNIST_DIR or downloaded to data. Nothing else may run meanwhile.
bench: $(DEV_READY) bench-peers
	$(BIN)/python -m benchmarks.footprint
	OMP_WAIT_POLICY=passive $(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.processes
	$(BIN)/python -m benchmarks.overload
	$(BIN)/python -m tests.reliability.scorecard
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.serving --servers floor,perceptd --seconds 10 --name serving-long
	$(BIN)/python -m benchmarks.profile

# Each has an environment of its own in .peers. One at a time: make .peers/ray/.ready
bench-peers: $(PEERS:%=.peers/%/.ready)

.peers/%/.ready: benchmarks/peers/%/requirements.txt | $(READY)
	$(UV) venv --quiet --clear --python $(BIN)/python .peers/$*
	$(UV) pip install --quiet --compile-bytecode --python .peers/$*/bin/python --requirements $<
	touch $@

wheel: $(READY)
	$(UV) build --wheel --out-dir dist

lock: $(READY)
	$(UV) pip compile pyproject.toml --all-extras --universal --no-emit-index-url --quiet --output-file requirements.lock

# Print the build of torch that is installed here.
torch-backend: $(UV)
	@echo $(TORCH_BACKEND)

$(UV): requirements.lock
	@echo 'Making $(VENV) with uv, which installs the rest ...' >&2
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $< uv
	@touch $@

$(READY): $(UV) pyproject.toml
	@backend='$(TORCH_BACKEND)'; \
	case "$$backend" in \
		cpu) torch='with the CPU build of torch: about 1.4 GB' ;; \
		'') torch='with the build of torch of the default index: on Linux the one for CUDA, 6 GB' ;; \
		*) torch="with the build of torch for $$backend" ;; \
	esac; \
	echo "Installing what serving and training need into $(VENV), $$torch. This takes minutes ..." >&2; \
	$(INSTALL) --compile-bytecode $${backend:+--torch-backend=$$backend} --editable '.[train]'
	@touch $@

$(DEV_READY): $(READY)
	@echo 'Installing the development tools into $(VENV), 0.5 GB ...' >&2
	@$(INSTALL) --compile-bytecode --editable '.[train,dev]'
	@touch $@

clean:
	rm -rf .venv* .peers build dist site .pytest_cache .mypy_cache .ruff_cache
