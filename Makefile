# One word for each chore. `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV   ?= .venv
GPU_VENV ?= build/venv-gpu
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help setup demo web demo-train test test-fast test-export check soak bench bench-quick bench-gpu loadtest clean
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make setup     the environment: a virtual environment with everything but torch
setup: $(READY)
$(READY): pyproject.toml scripts/setup
	scripts/setup "$(PYTHON)" "$(VENV)"

## make demo      start Triton, and render examples/speech.wav to out/demo.mp4
demo: $(READY)
	scripts/demo "$(BIN)"

## make demo-train  train the demo avatar's networks anew: an hour and a half on two cores
demo-train: $(READY)
	scripts/demo-train "$(BIN)"

## make web       the demo avatar on a web page: http://localhost:8080/
web: $(READY)
	scripts/web "$(BIN)" $(ARGS)

## make test      the tests, against a real tritonserver; COVERAGE=1 prints their coverage by package
test: $(READY)
	scripts/test "$(BIN)"

## make test-fast  the tests that need neither a server nor seconds of training, compiling or building
test-fast: $(READY)
	$(BIN)/python -m pytest -m "not soak and not server and not slow" -n 2 --dist loadfile \
		--ignore tests/doors --ignore tests/soak  # none of these: to import them takes seconds

## make test-export  the tests of checkpoints and trainings, which need torch
test-export: $(READY)
	scripts/install-torch "$(BIN)"
	$(BIN)/python -m pytest tests/preprocessing/test_checkpoint_export.py tests/preprocessing/test_training.py \
	  tests/preprocessing/test_creation.py tests/preprocessing/test_distillation.py tests/preprocessing/test_inheritance.py \
	  tests/preprocessing/test_student_figures.py

## make check     formatting, lint, types
check: $(READY)
	scripts/check "$(BIN)"

## make soak      the long proofs
soak: $(READY)
	$(BIN)/python -m pytest -m soak --timeout 7200

## make bench     speed, against the bare runtime and the earlier systems; rewrites docs/benchmarks.md
bench: $(READY)
	PYTHONPATH=benchmarks $(BIN)/python -m lipsync_benchmarks report --page docs/benchmarks.md --keep-ratios

## make bench-quick  a few short rows, against the ratios kept in benchmarks/ratios.json
bench-quick: $(READY)
	PYTHONPATH=benchmarks $(BIN)/python -m lipsync_benchmarks quick

## make bench-gpu  the same on an NVIDIA GPU, within 8 minutes; leaves out/bench-gpu.json
bench-gpu:
	scripts/bench-gpu "$(PYTHON)" "$(VENV)" "$(GPU_VENV)" $(ARGS)

## make loadtest  load the demo avatar for a minute, with Locust; leaves out/loadtest.html
loadtest: $(READY)
	scripts/loadtest "$(BIN)" $(ARGS)

clean:
	rm -rf build out $(VENV)
