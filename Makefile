# make demo · make test · make lint · make docs · make bench · make torture: each creates and uses .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
# OpenMP waits by spinning unless told otherwise, which is many times slower beside any other work.
export OMP_WAIT_POLICY := PASSIVE
INSTALLED := .venv/.installed

.PHONY: demo test lint format docs bench torture clean

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/vitgan train quickstart

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

torture: $(INSTALLED)
	$(BIN)/python -m pytest -m long
	VITGAN_FUZZ_ROUNDS=20 $(BIN)/python -m pytest tests/reliability/test_strangers.py --timeout 2400
	PYTHONPATH=tests $(BIN)/python -m reliability.torture --kills 200 --kills-of-two 12 --kills-of-preparation 40 \
		--stops 60 --starts 20 --terminals 3000 --damages 5000

clean:
	rm -rf .venv .pytest_cache .ruff_cache
