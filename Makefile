# make demo: set up, build, train both models small on real text, run them in the engine, show results.
# make test: set up, build, run every check and test. Neither needs a GPU, a model hub or root.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
BUILD  := build/test
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
CLANGXX := $(lastword clang++ $(sort $(notdir $(wildcard /usr/bin/clang++-[0-9]*))))
CLANG   := $(subst ++,,$(CLANGXX))
# Each test is mostly serial, so several files run at a time, each in a process with one thread for PyTorch. A file's tests
# stay together: they share what was made for them.
PYTEST  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --maxprocesses 4 --dist loadfile
export PYTHONUNBUFFERED := 1
export LRENGINE_BUILD_DIR := $(CURDIR)/build/package
export PATH := $(CURDIR)/$(BIN):$(PATH)

ENGINE_SOURCES := $(shell find csrc -type f 2>/dev/null) setup.py pyproject.toml
FORMATTED      := $(shell find csrc tests benchmarks examples -name '*.cpp' -o -name '*.h' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh' \
    -o -name '*.c')

.PHONY: demo test build lint test-cpp test-cuda cuda-targets test-install test-python test-transformers-4 test-wheel \
    test-gcc test-clang test-neon sanitize test-threads coverage work configure format clean onnx-headers

demo: $(VENV)/.built
	$(BIN)/lrengine demo --out demo

test: lint test-cpp test-python test-cuda test-install test-transformers-4 test-wheel
	@echo "make test: passed"

build: $(VENV)/.built

$(VENV)/.ready: requirements/build.txt requirements/train.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements/build.txt -r requirements/train.txt
	touch $@

$(VENV)/.test-ready: $(VENV)/.ready requirements/test.txt requirements/onnx.txt requirements/transformers-4.txt
	$(PIP) install -r requirements/test.txt -r requirements/onnx.txt
	rm -rf $(VENV)/transformers-4
	$(PIP) install --no-deps --target $(VENV)/transformers-4 -r requirements/transformers-4.txt
	touch $@

# The header of ONNX Runtime's C API, for examples/onnx_cpp: Python's wheel has the library alone, this npm package has the
# header as part of what it brings for iOS. Without npm its test is skipped and says so.
ORT_HEADER_PACKAGE := com.github.asus4.onnxruntime@0.4.9
onnx-headers: $(VENV)/onnxruntime-headers
$(VENV)/onnxruntime-headers: $(VENV)/.ready
	rm -rf $(VENV)/onnx-npm && mkdir -p $(VENV)/onnx-npm
	cd $(VENV)/onnx-npm && npm pack --silent $(ORT_HEADER_PACKAGE) && tar xzf *.tgz --wildcards '*/ios-arm64/*/Headers/*.h'
	mv $(VENV)/onnx-npm/package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers $@
	rm -rf $(VENV)/onnx-npm

$(VENV)/.built: $(VENV)/.ready $(ENGINE_SOURCES)
	LRENGINE_BUILD_JOBS=$(JOBS) $(PIP) install --no-build-isolation --no-deps -e .
	touch $@

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)

configure: $(VENV)/.test-ready
	cmake -S csrc -B $(BUILD) -GNinja -DLRENGINE_TESTS=ON -DLRENGINE_WERROR=ON -DLRENGINE_POISON=ON \
	    -DLRENGINE_CUDA_EMULATION=ON -DLRENGINE_PYTHON=ON -DLRENGINE_BENCHMARKS=ON \
	    -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)" \
	    -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python

test-cpp: configure
	cmake --build $(BUILD) -j $(JOBS)
	ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

test-python: $(VENV)/.built $(VENV)/.test-ready
	$(PYTEST) tests

# The engine on CUDA, with the kernels that test-cpp built for the CPU.
test-cuda: export LRENGINE_CUDA_LIBRARY := $(CURDIR)/$(BUILD)/liblrengine_cuda_emulated.so
test-cuda: export LRENGINE_EMULATION_FAULT := throw
test-cuda: export LRENGINE_REQUIRE_CUDA := 1
test-cuda: test-cpp $(VENV)/.built
	$(BIN)/python -m pytest -q tests/python/test_engine_cuda.py

# The library as programs in C and C++ get it: installed, and the examples built outside this tree with what was installed.
test-install: export LRENGINE_INSTALLED := $(CURDIR)/build/installed
test-install: export LRENGINE_EXAMPLES := $(CURDIR)/build/examples
test-install: test-cpp $(VENV)/.built
	rm -rf build/installed build/examples
	cmake --install $(BUILD) --prefix build/installed > /dev/null
	cmake -S examples -B build/examples -DCMAKE_PREFIX_PATH=$(CURDIR)/build/installed > /dev/null
	cmake --build build/examples -j $(JOBS)
	-$(MAKE) onnx-headers
	$(BIN)/python -m pytest -q tests/python/test_installed_library.py tests/python/test_onnx_cpp.py

# The same from both compilers as both kinds of library; g++'s shared one is test-install's. A compiler's objects serve
# both kinds, so they share its folder.
test-gcc: export CC := gcc
test-gcc: export CXX := g++
test-gcc: KINDS := static
test-clang: export CC := $(CLANG)
test-clang: export CXX := $(CLANGXX)
test-clang: KINDS := static shared
test-gcc test-clang: test-%: $(VENV)/.built $(VENV)/.test-ready
	set -e; for kind in $(KINDS); do \
	    export LRENGINE_INSTALLED=$(CURDIR)/build/installed-$*-$$kind LRENGINE_EXAMPLES=$(CURDIR)/build/examples-$*-$$kind; \
	    cmake -S csrc -B build/$* -GNinja -DBUILD_SHARED_LIBS=$$([ $$kind = shared ] && echo ON || echo OFF) \
	        -DLRENGINE_WERROR=ON -DLRENGINE_CUDA=OFF -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python; \
	    cmake --build build/$* -j $(JOBS) --target lrengine; \
	    rm -rf $$LRENGINE_INSTALLED $$LRENGINE_EXAMPLES; \
	    cmake --install build/$* --prefix $$LRENGINE_INSTALLED > /dev/null; \
	    cmake -S examples -B $$LRENGINE_EXAMPLES -DCMAKE_PREFIX_PATH=$$LRENGINE_INSTALLED > /dev/null; \
	    cmake --build $$LRENGINE_EXAMPLES -j $(JOBS); \
	    $(BIN)/python -m pytest -q tests/python/test_installed_library.py; \
	done

# The kernels for 64-bit ARM and an engine on them, compiled for it and run by qemu-user. Needs g++-aarch64-linux-gnu and
# qemu-user. -O2: -O3 costs a third more to compile here.
NEON_TESTS := op_backend op_cached_attention op_attention op_elementwise op_embedding op_feed_forward op_feed_forward_rounded \
    op_linear op_linear_rounded op_linear_rows op_layer_mix op_mixed_linear op_norm op_rope op_select turns capi_generate
test-neon: $(VENV)/.ready
	cmake -S csrc -B build/neon -GNinja --toolchain $(CURDIR)/csrc/cmake/aarch64-linux-gnu.cmake -DLRENGINE_TESTS=ON \
	    -DLRENGINE_WERROR=ON -DLRENGINE_POISON=ON -DLRENGINE_CUDA=OFF -DCMAKE_CXX_FLAGS_RELEASE="-O2 -DNDEBUG" \
	    -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python
	cmake --build build/neon -j $(JOBS) --target $(NEON_TESTS:=_test)
	ctest --test-dir build/neon --output-on-failure -j $(JOBS) -R "^($$(echo $(NEON_TESTS) | tr ' ' '|'))_test"

# The C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer, then each fuzzer for FUZZ_SECONDS. What a fuzzer finds
# is left in build/sanitize/NAME-crash-*. Needs clang with libFuzzer. -O2: -O3 costs a third more to compile here. Directories
# that are written once an input lie in memory where they can.
FUZZ_SECONDS ?= 60
sanitize: export ASAN_OPTIONS := allocator_may_return_null=1:$(ASAN_OPTIONS)
sanitize: export UBSAN_OPTIONS := print_stacktrace=1:$(UBSAN_OPTIONS)
sanitize: export TMPDIR := $(or $(wildcard /dev/shm),$(TMPDIR),/tmp)
sanitize: $(VENV)/.ready
	cmake -S csrc -B build/sanitize -GNinja -DCMAKE_CXX_COMPILER=$(CLANGXX) -DLRENGINE_TESTS=ON -DLRENGINE_FUZZERS=ON \
	    -DLRENGINE_SANITIZE=address,undefined -DLRENGINE_CUDA=OFF -DCMAKE_CXX_FLAGS_RELEASE="-O2 -DNDEBUG" \
	    -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python
	cmake --build build/sanitize -j $(JOBS)
	ctest --test-dir build/sanitize --output-on-failure -j $(JOBS)
	printf '%s\n' safetensors index config tokenizer open request | xargs -P $(JOBS) -I NAME sh -ec ' \
	    mkdir -p build/sanitize/corpus/NAME && \
	    build/sanitize/NAME_fuzz -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -timeout=60 -rss_limit_mb=4096 \
	        -artifact_prefix=build/sanitize/NAME- build/sanitize/corpus/NAME tests/fuzz/corpus/NAME \
	        > build/sanitize/NAME.log 2>&1 || { tail -60 build/sanitize/NAME.log; exit 255; }; \
	    echo "NAME: $$(grep number_of_executed build/sanitize/NAME.log)"'

# Eight threads on one engine for STRESS_SECONDS, under ThreadSanitizer; forked children may start threads there.
STRESS_SECONDS ?= 60
test-threads: export TSAN_OPTIONS := die_after_fork=0
test-threads: $(VENV)/.ready
	cmake -S csrc -B build/threads -GNinja -DLRENGINE_TESTS=ON -DLRENGINE_SANITIZE=thread -DLRENGINE_CUDA=OFF \
	    -DCMAKE_CXX_FLAGS_RELEASE="-O1 -g1" -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python
	cmake --build build/threads -j $(JOBS) --target turns_test thread_pool_test block_cache_test \
	    weight_search_test threads_test
	build/threads/turns_test
	build/threads/thread_pool_test
	build/threads/block_cache_test
	build/threads/weight_search_test
	LRENGINE_STRESS_SECONDS=$(STRESS_SECONDS) build/threads/threads_test

# The lines of core and of runtime that the tests of these layers and of the C interface run; under 95% fails. Needs gcc.
COVERING := arena block_cache checkpoint core json safetensors thread_pool turns weight_loader weight_loader_int4 weight_search attack_config attack_sweep \
    device capi capi_generate capi_numbers capi_threads engine_threads
coverage: $(VENV)/.test-ready
	cmake -S csrc -B build/coverage -GNinja -DLRENGINE_TESTS=ON -DLRENGINE_COVERAGE=ON -DLRENGINE_CUDA=OFF \
	    -DCMAKE_CXX_COMPILER=g++ -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python
	cmake --build build/coverage -j $(JOBS) --target $(COVERING:=_test)
	find build/coverage -name '*.gcda' -delete
	for name in $(COVERING); do build/coverage/$${name}_test || exit 1; done
	for layer in core runtime; do \
	    $(BIN)/gcovr --root csrc --object-directory build/coverage --filter csrc/$$layer/ --fail-under-line 95 || exit 1; done

# Every kernel for every supported GPU, warnings being errors: for one as it is shipped, for the others without most of the
# optimiser, which takes a tenth of the time (where nvcc is older than 12.9 and cannot, they are compiled in full). CI runs
# it and `make test` does not. Skipped, with a word, where there is no nvcc.
cuda-targets: $(VENV)/.test-ready
	@if command -v nvcc > /dev/null; then set -e; \
	    fast=$$(nvcc --help | grep -q -- --Ofast-compile && echo --Ofast-compile=max || true); \
	    compile() { \
	        cmake -S csrc -B build/$$1 -GNinja -DLRENGINE_CUDA=ON -DLRENGINE_WERROR=ON -DLRENGINE_CUDA_ARCHITECTURES="$$2" \
	            -DCMAKE_CUDA_FLAGS="$$3" -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python; \
	        cmake --build build/$$1 -j $(JOBS) --target lrengine_cuda; \
	    }; \
	    compile cuda 90-real ""; \
	    compile cuda-others "80-real;86-real;87-real;89-real;100" "$$fast"; \
	else echo "nvcc was not found: the CUDA kernels are not compiled for GPUs here"; fi

# Whatever stands on transformers again, with its other supported line laid over the environment: models, training, data,
# converters, evaluation. Left out for time: the demo (it is made of the same calls, and `make demo` installs the pinned
# line), and the second way to launch two processes (which is accelerate's own).
test-transformers-4: export PYTHONPATH := $(CURDIR)/$(VENV)/transformers-4
test-transformers-4: $(VENV)/.built $(VENV)/.test-ready
	$(BIN)/python -c "import transformers; assert transformers.__version__.startswith('4.'), transformers.__version__"
	$(PYTEST) -p no:cacheprovider -k "not (two_processes and accelerate)" \
	    tests/python/test_models_*.py tests/python/test_training_*.py tests/python/test_data_*.py \
	    tests/python/test_convert_*.py tests/python/test_evaluation_cli.py \
	    tests/python/test_engine_generate.py tests/python/test_engine_stop_ids.py tests/python/test_export_optimum.py \
	    tests/python/test_benchmark_suites.py

# Instructions and bytes of a decoded token against stored figures: half a minute, left out with a word without valgrind.
work: configure $(VENV)/.built
	cmake --build $(BUILD) -j $(JOBS) --target decode_work
	$(BIN)/python benchmarks/work.py $(BUILD)/decode_work

# What `pip wheel .` makes must work where this tree is not.
test-wheel: $(VENV)/.built
	rm -rf build/wheel && mkdir -p build/wheel
	$(PIP) wheel --no-build-isolation --no-deps -w build/wheel .
	$(PIP) install --no-deps --target build/wheel/site build/wheel/*.whl
	cd build/wheel && PYTHONPATH=site $(CURDIR)/$(BIN)/python -c "import lrengine, lrengine._engine, lrengine.kernels, \
	    lrengine.export; assert 'wheel/site' in lrengine._engine.__file__; lrengine.Engine"

format: $(VENV)/.test-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(FORMATTED)

clean:
	rm -rf build dist demo *.egg-info lrengine/_engine*.so
