# Every target sets up what it needs. The two to know: `make demo` (the main job) and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Test files are dealt out whole to two processes (tests/conftest.py); JOBS=1 runs all in one.
JOBS   ?= 2
PARALLEL := --numprocesses $(JOBS) --dist loadgroup --no-loadscope-reorder

CHECKS := check-types check-style check-imports check-dead

.PHONY: setup browser demo test quick soak sim sim-network economics bench weights fuzz nightly determinism check $(CHECKS) format clean

setup: $(VENV)/.setup-done

$(VENV)/.setup-done: pyproject.toml requirements.lock scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh "$(VENV)"
	@touch $@

$(VENV)/.dev-done: $(VENV)/.setup-done
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev,reference]'
	@touch $@

# What the tests of the chat page need beside; they are skipped, with the reason, where it cannot be had.
browser:
	@scripts/browser.sh

# make demo ARGS="--cheat quantise" | ARGS="--kill" | ARGS="--keep"
demo: setup
	@$(BIN)/myelin demo $(ARGS)

test: $(VENV)/.dev-done browser check
	@$(BIN)/python -m pytest tests $(PARALLEL) $(ARGS)

# Everything but the tests that take tens of seconds.
quick: $(VENV)/.dev-done
	@$(BIN)/python -m pytest tests -m "not slow and not soak and not nightly" $(PARALLEL) $(ARGS)

# A hundred honest requests in a row on one network, every one verified; twenty prompts against one process;
# four validators under load and 30 minutes of faults: make soak ARGS="--minutes 5 --seed 7 -k localnet"
soak: $(VENV)/.dev-done
	@$(BIN)/python -m pytest tests/soak -m soak -s $(ARGS)

# Ten thousand simulations of four validators, with faults and liars; half an hour. make sim ARGS="--seeds 100 --json"
sim: $(VENV)/.setup-done
	@$(BIN)/myelin sim consensus --seeds 10000 $(ARGS)

# A thousand workers under churn for an hour, twice; some ten minutes on two cores. make sim-network ARGS="--scenario liars"
sim-network: $(VENV)/.setup-done
	@$(BIN)/myelin sim network --workers 1000 --seeds 2 $(ARGS)

# Every deviation against honesty, and the plots of docs/economics.md; some minutes. make economics ARGS="--seeds 4"
economics: $(VENV)/.setup-done
	@$(BIN)/myelin sim economy --seeds 8 --plot docs/images/economics $(ARGS)

# The chain against injectived, side by side; some ten minutes on an idle machine. make bench ARGS="--quick --json"
bench: $(VENV)/.dev-done
	@$(BIN)/myelin bench chain $(ARGS)

# Measures every call and writes consensus/runtime/weights_table.py; two minutes on an idle machine. Then write
# the vectors that hold fees anew: benchmarks/README.md. make weights ARGS=--render makes the table of what is recorded.
weights: $(VENV)/.dev-done
	@$(BIN)/python -m benchmarks.weights $(ARGS)

# A million mutated extrinsics, blocks and RPC bodies. make fuzz ARGS="--cases 10000 --seed 7"
fuzz: $(VENV)/.dev-done
	@$(BIN)/python -m tests.fuzz.run --cases 1000000 $(ARGS)

# What is too long for every commit: the stateful tests over 10,000 steps, every deviation over many seeds.
nightly: $(VENV)/.dev-done
	@$(BIN)/python -m pytest tests/simulation/test_economy.py -m nightly --timeout=7200 -s $(ARGS)
	@$(BIN)/python -m pytest tests/stateful -m "nightly or not nightly" --timeout=3600 -s $(ARGS)

# The recorded chain under other hash seeds and orders, and on the newest Python the distribution's archive has.
determinism: $(VENV)/.dev-done
	@tests/determinism/newest_python.sh build/newest-python $(BIN)/pip || test $$? -eq 3
	@$(BIN)/python -m pytest tests/determinism -rs $(ARGS)

# The tools run side by side, each one's output in one piece.
check: $(VENV)/.dev-done
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going $(CHECKS)

check-style:
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .

check-types:
	@$(BIN)/mypy

check-imports:
	@$(BIN)/lint-imports --no-cache

# Code that nothing calls (pyproject.toml: tool.vulture).
check-dead:
	@$(BIN)/vulture

format: $(VENV)/.dev-done
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
