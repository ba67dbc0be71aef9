# Two commands on a fresh machine: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev,vision,plots

.PHONY: setup demo test test-all fuzz lint types golden bench clean

# Editable, so that fxq.passes and fxq.targets are this checkout's folders. The second command
# asks for torch and torchvision together: they must be of one build.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --quiet torch torchvision
	$(BIN)/python -m pip install --quiet --quiet --editable '.[$(EXTRAS)]'
	touch $@

# Built by the installation too; again here where sources are newer. Without a compiler it is left out.
NATIVE := fxq/kernels/native
$(NATIVE)/libfxq_native.so: $(wildcard $(NATIVE)/*.cpp $(NATIVE)/*.h) $(NATIVE)/build.py | $(VENV)/ready
	-@$(BIN)/python -m fxq.kernels.native.build

setup: $(VENV)/ready $(NATIVE)/libfxq_native.so

demo: setup
	$(BIN)/fxq demo

# A file's tests run in one worker, in order, so that what they share is made once. One thread
# each: more would wait for each other. `make test-all` takes torch's own number of threads.
WORKERS ?= 2
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses $(WORKERS) \
		--dist loadfile --durations 20 $(PYTEST_ARGS)

test-all: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Random models, broken and hostile files, for hours if you like: make fuzz MODELS=100000
MODELS ?= 3000
NATIVE_MODELS ?= 3000
FILES ?= 20000
HOSTILE ?= 20000
fuzz: setup
	$(BIN)/python -m tests.fuzz.campaign --models $(MODELS) --native $(NATIVE_MODELS) \
		--files $(FILES) --hostile $(HOSTILE) $(FUZZ_ARGS)

lint: setup
	$(BIN)/ruff check setup.py fxq passes targets tests benchmarks examples

# mypy does not know package-dir, so it reads the packages where an installation puts them.
types: setup
	rm -rf build/types && mkdir -p build/types
	cp -r fxq build/types/fxq && cp -r passes build/types/fxq/passes
	cp -r targets build/types/fxq/targets
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p fxq

golden: setup
	$(BIN)/python -m pytest -m "not slow" --update-golden -k golden $(PYTEST_ARGS)

clean:
	rm -rf build $(VENV)
