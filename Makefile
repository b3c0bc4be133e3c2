# Every target sets up what it needs. The two to know: `make demo` (the main job) and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Test files are dealt out whole to two processes; JOBS=1 runs all in one.
JOBS   ?= 2
PARALLEL := --numprocesses $(JOBS) --dist loadfile

.PHONY: setup demo test quick soak check format clean

setup: $(VENV)/.setup-done

$(VENV)/.setup-done: pyproject.toml requirements.lock scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh "$(VENV)"
	@touch $@

$(VENV)/.dev-done: $(VENV)/.setup-done
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev,reference]'
	@touch $@

# make demo ARGS="--cheat quantise" | ARGS="--keep"
demo: setup
	@$(BIN)/myelin demo $(ARGS)

test: $(VENV)/.dev-done check
	@$(BIN)/python -m pytest tests $(PARALLEL) $(ARGS)

# Everything but the tests that take tens of seconds.
quick: $(VENV)/.dev-done
	@$(BIN)/python -m pytest tests -m "not slow and not soak" $(PARALLEL) $(ARGS)

# A hundred honest requests in a row on one network, every one verified; twenty prompts against the unsharded model.
soak: $(VENV)/.dev-done
	@$(BIN)/python -m pytest tests/soak -m soak -s $(ARGS)

check: $(VENV)/.dev-done
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev-done
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
