# The two commands that matter: make demo, make test. Everything is built into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
C_FILES := $(wildcard csrc/*.[ch] csrc/lab/*.[ch])
BUILD_FILES := pyproject.toml setup.py $(wildcard csrc/*.py csrc/lab/*.py) $(C_FILES)

# Without root, what needs a network of its own runs as root of a user namespace.
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo unshare --user --map-root-user --net)

.PHONY: all demo test test-vm check-tools lint format test-sanitize bench clean

all: $(VENV)/built

$(VENV)/built: $(BUILD_FILES)
	@.ci/debian-packages build
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tapbond needs Python 3.11 or later (make PYTHON=python3.12)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "no venv here (Debian: apt-get install python3-venv)" >&2; exit 1; }
	TAPBOND_STRICT=1 $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,plot]'
	@touch $@

demo: $(VENV)/built
	@$(BIN)/tapbond demo $(DEMO)

test: $(VENV)/built check-tools lint
	$(ROOT) $(BIN)/pytest $(PYTEST)

check-tools:
	@.ci/debian-packages test

lint: $(VENV)/built
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy --no-error-summary
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

format: $(VENV)/built
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .
	$(BIN)/clang-format -i $(C_FILES)

# Virtual machines, in software: some ten minutes. VM="-m selection" for what CI runs, VM=--update-docs to write the
# outcomes into docs/conformance.md.
test-vm: $(VENV)/built
	@.ci/debian-packages vm
	@.ci/debian-kernel build/vm/kernel || true  # the tests say what is missing
	$(ROOT) $(BIN)/pytest tests/vm $(VM)

# The C under AddressSanitizer and UndefinedBehaviorSanitizer, in a copy of its own.
test-sanitize: $(VENV)/built check-tools
	$(ROOT) tests/sanitize $(BIN)/python $(PYTEST)

# Two hours or more; BENCH="--rounds 3 --repetitions 20" for less. Open vSwitch is compared where it is installed.
bench: $(VENV)/built check-tools
	@mkdir -p build
	$(BIN)/pytest bench/test_core.py --benchmark-columns=min,median,ops --benchmark-json build/core.json
	$(ROOT) $(BIN)/python bench/compare.py --json build/compare.json --markdown build/compare.md \
		--plot build/compare.png --summary-plot build/bench.png $(BENCH)
	$(ROOT) $(BIN)/python bench/scale.py --json build/scale.json

clean:
	rm -rf $(VENV) build dist *.egg-info tapbond/*.so tapbond/lab/*.so tapbond/_core.c tapbond/lab/_traffic.c
	find . -name __pycache__ -type d -exec rm -rf {} +
