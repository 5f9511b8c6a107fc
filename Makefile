# Everything runs in .venv. The first target that needs it makes it from requirements.lock, with uv
# or, where uv is absent or cannot reach its index, with pip and the settings that pip has. Once
# .venv/.ready stands, no target uses the network until the lock or pyproject.toml changes.

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready

# Arguments for the tools: make test PYTEST_ARGS='-k replay', make lock LOCK_ARGS=--upgrade.
PYTEST_ARGS ?= -n auto
BENCH_ARGS  ?=
LOCK_ARGS   ?=

# The interpreter to make .venv with; without it, the first that works of those named below.
PYTHON ?=

.DEFAULT_GOAL := help
.PHONY: help demo waiting test test-quick lint quick-lint bench recall torture kills matrix public reference pictures package lock clean

help:
	@echo 'make demo    the demonstration: examples/demo.py'
	@echo 'make waiting the run that waits for days: examples/waiting'
	@echo 'make test    every check: lint, types, import layers, tests'
	@echo 'make test-quick some tests of each room, in less than a minute'
	@echo 'make lint    the checks that run nothing: ruff, mypy, import-linter'
	@echo 'make bench   the benchmarks, as ratios to this machine'"'"'s own commit time'
	@echo 'make recall  how well memory finds: nDCG@10 and recall@10 on the judged set'
	@echo 'make memory  many agents write in one memory and are killed: what is there in the end'
	@echo 'make torture minutes of kills, stops and restarts; at the end counts what was lost'
	@echo 'make kills   what the tests kill at some of its commits, killed at each'
	@echo 'make matrix  the wheel, installed from an index by each Python that there is'
	@echo 'make public  what is public, compared with the last release'
	@echo 'make reference docs/reference, made of the docstrings again'
	@echo 'make pictures the pictures of the README, made again'
	@echo 'make package the source archive and the wheel, in dist'
	@echo 'make lock    resolve requirements.lock again (needs uv)'
	@echo 'make clean   remove .venv, caches and build products'

demo: $(READY)
	@$(BIN)/python examples/demo.py

waiting: $(READY)
	@$(BIN)/python examples/waiting/story.py

# The types are checked beside the tests, which leave it half a core; what is found comes after them.
TYPES := $(VENV)/.types

test: quick-lint
	@printf '\n== tests\n'
	@$(BIN)/mypy >$(TYPES) 2>&1 & types=$$!; \
	trap 'kill $$types 2>/dev/null; exit 130' INT TERM HUP; \
	$(BIN)/python -m pytest $(PYTEST_ARGS); tests=$$?; \
	wait $$types; types=$$?; \
	printf '\n== types\n'; cat $(TYPES); \
	test $$types -eq 0 && exit $$tests

# The files that are named there: some of each room. None starts Python, nor PostgreSQL again.
test-quick: $(READY)
	@$(BIN)/python -m pytest $(PYTEST_ARGS) @tests/quick.txt

# From the quickest check to the slowest: the first that fails ends it.
lint: quick-lint
	@printf '\n== types\n'
	@$(BIN)/mypy

quick-lint: $(READY)
	@printf '\n== lint\n'
	@$(BIN)/ruff check .
	@printf '\n== format\n'
	@$(BIN)/ruff format --check .
	@printf '\n== import layers\n'
	@$(BIN)/lint-imports

bench: $(READY)
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

recall: $(READY)
	@$(BIN)/python -m tests.judged

memory: $(READY)
	@$(BIN)/python -m tests.crowd

# Through the real PgBouncer too, where it is installed: apt-get install pgbouncer.
torture: $(READY)
	@$(BIN)/python -m tests.torture

kills: $(READY)
	@OSTINATO_KILL_AT_EACH_COMMIT=1 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/test_crash*.py

# Uses the index that pip has.
matrix: $(READY)
	@$(BIN)/python -m tests.matrix

public: $(READY)
	@$(BIN)/python -m tests.surface

reference: $(READY)
	@$(BIN)/python -m tests.reference

pictures: $(READY)
	@$(BIN)/python -m tests.pictures

# With the build backend of the lock.
package: $(READY)
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation

lock:
	@uv pip compile --quiet --universal --generate-hashes --no-strip-extras --no-header \
		--no-annotate --all-extras --group dev $(LOCK_ARGS) pyproject.toml \
		--output-file requirements.lock
	@if grep -n '://' requirements.lock; then \
		echo 'requirements.lock names an address; pins and hashes only, please.' >&2; exit 1; fi

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------
# Set-up

UV_WORKS = uv --version >/dev/null 2>&1

# A version manager's shim may exist and fail, and a system Python may lack ensurepip, so each
# candidate has to answer before it is taken.
$(VENV)/pyvenv.cfg:
	@rm -rf $(VENV)
	@needs=sys,ensurepip; if $(UV_WORKS); then needs=sys; fi; \
	for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
		python=$$($$candidate -c "import $$needs; sys.version_info >= (3, 11) and print(sys.executable)" \
			2>/dev/null) && test -n "$$python" && break; \
	done; \
	if test -z "$$python"; then \
		echo 'Ostinato needs Python 3.11 or newer with its venv module, and found none.' >&2; \
		echo 'Install one (Debian, Ubuntu: apt install python3 python3-venv),' >&2; \
		echo 'or name one: make PYTHON=/path/to/python3 ...' >&2; \
		exit 1; \
	fi; \
	echo "== set-up: $(VENV) with $$python"; \
	if $(UV_WORKS); then uv venv --quiet --python "$$python" $(VENV); \
	else "$$python" -m venv $(VENV); fi

# Hashes and an editable install exclude each other in one call, so there are two. The build
# backend is in the lock, so the second call fetches nothing.
$(READY): requirements.lock pyproject.toml | $(VENV)/pyvenv.cfg
	@echo '== set-up: requirements.lock (once; later runs need no network)'
	@if $(UV_WORKS) \
		&& uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		&& uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	then :; else \
		{ $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; } \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check \
			--require-hashes -r requirements.lock \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check \
			--no-deps --no-build-isolation -e .; \
	fi
	@touch $@
