#!/usr/bin/env bash
# Everything that only a GPU can show, in one run: build, CUDA op tests and engine parity on the GPU, compute-sanitizer,
# the Triton kernels natively, then the benchmarks. No network. Each step has a time limit, so that one that hangs does
# not cost the others.
#
#     benchmarks/gpu_check.sh OUT [WORK]
#
# STEPS="build op_tests ..." runs only those (build is needed once for a WORK; the names are those it prints).
# OUT gets a log of every step, summary.json (what passed, in how many seconds) and the benchmarks' JSON files; WORK
# (default: a temporary folder) the build and the models with random weights, about 10 GB.
# Needs: a CUDA toolkit, cmake, ninja, a C++20 compiler, and python3 with torch, triton, transformers, tokenizers,
# pybind11 and pytest; nlohmann_json's header from the system, from Python's package, or as a wheel in .whl/.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mkdir -p "${1:?usage: gpu_check.sh OUT [WORK]}" && cd "$1" && pwd)
work=${2:-$(mktemp -d)}
mkdir -p "$work"
python=${PYTHON:-python3}
jobs=$(nproc)
cd "$root" || exit 1

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
if [ -z "$capability" ]; then
    echo "no GPU is visible: nvidia-smi printed no compute capability" >&2
    exit 1
fi

if compgen -G ".whl/*.whl" > /dev/null; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$work/site" .whl/*.whl
fi
export PYTHONPATH="$work/site:$work/package:$root${PYTHONPATH:+:$PYTHONPATH}"
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

# The C++ tests look for cuBLASLt where the dynamic loader does; where CUDA came with Python's packages, it is there.
if [ -z "${LRENGINE_CUBLASLT:-}" ] && ! ldconfig -p | grep libcublasLt > /dev/null; then
    LRENGINE_CUBLASLT=$("$python" -c "
import importlib.util as util, pathlib
folders = util.find_spec('nvidia').submodule_search_locations
found = [file for folder in folders for file in pathlib.Path(folder).glob('*/lib/libcublasLt.so.1[23]')]
print(max(found, key=lambda file: file.name))")
    export LRENGINE_CUBLASLT
fi

steps=()
# step NAME SECONDS COMMAND...: runs it, keeps its output in OUT/NAME.log, and goes on whatever comes of it.
step() {
    local name=$1 limit=$2 started status
    shift 2
    case " ${STEPS:-$name} " in *" $name "*) ;; *) return 0 ;; esac
    started=$(date +%s)
    timeout --kill-after=10 "$limit" "$@" > "$out/$name.log" 2>&1
    status=$?
    local seconds=$(($(date +%s) - started))
    steps+=("{\"step\": \"$name\", \"status\": $status, \"seconds\": $seconds}")
    if [ $status -eq 0 ]; then echo "ok      $name ($seconds s)"; else
        echo "FAILED  $name ($seconds s, status $status)"
        tail -n 15 "$out/$name.log"
    fi
    summary
    return $status
}

summary() {
    local gpu driver commit
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)
    commit=$(git rev-parse HEAD 2> /dev/null || echo unknown)
    local IFS=,
    printf '{"date": "%s", "gpu": "%s", "driver": "%s", "commit": "%s", "steps": [%s]}\n' \
        "$(date +%F)" "$gpu" "$driver" "$commit" "${steps[*]}" > "$out/summary.json"
}

build() {
    local pybind11
    pybind11=$("$python" -c "import pybind11; print(pybind11.get_cmake_dir())") || return 1
    # The modules go to a package folder of their own, beside links to the sources.
    mkdir -p "$work/package"
    cp -rs --update "$root/lrengine" "$work/package/" && rm -f "$work"/package/lrengine/_engine*.so
    ln -sfn "$root/kernels" "$work/package/lrengine/kernels"
    ln -sfn "$root/export" "$work/package/lrengine/export"
    cmake -S csrc -B "$work/build" -GNinja -DLRENGINE_PYTHON=ON -DLRENGINE_TESTS=ON -DLRENGINE_CUDA=ON \
        -DLRENGINE_CUDA_ARCHITECTURES="$capability" -Dpybind11_DIR="$pybind11" -DPython_EXECUTABLE="$(command -v "$python")" \
        -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$work/package/lrengine" &&
        cmake --build "$work/build" -j "$jobs" --target lrengine_package $(basename -s .cpp tests/cpp/op_*_test.cpp)
}

op_tests() {
    ctest --test-dir "$work/build" --output-on-failure -j 4 -L cuda
}

# $1: memcheck or racecheck; the tests of one activation type, whose names hold "float32".
sanitize() {
    # A test asks for more memory than there is: a refused allocation is no fault.
    local options=(--tool "$1" --error-exitcode 9)
    [ "$1" = memcheck ] && options+=(--report-api-errors no)
    export LRENGINE_TEST_DEVICE=cuda LRENGINE_CUDA_LIBRARY="$work/package/lrengine/liblrengine_cuda.so"
    printf '%s\n' "$work"/build/op_*_test | xargs -P 6 -I{} timeout 200 compute-sanitizer "${options[@]}" {} float32
}

# Without PYTHONSAFEPATH the sources here, which have no built module, would come before the package.
parity() {
    PYTHONSAFEPATH=1 LRENGINE_REQUIRE_CUDA=1 PYTHONPATH="$root/tests/python:$PYTHONPATH" "$python" -m pytest -q \
        --maxfail 20 --timeout 240 -p no:cacheprovider tests/python/test_engine_cuda.py
}

# $1: memcheck or racecheck of whole requests: what ends a step runs in no op test.
sanitize_requests() {
    PYTHONSAFEPATH=1 LRENGINE_REQUIRE_CUDA=1 PYTHONPATH="$root/tests/python:$PYTHONPATH" timeout 230 compute-sanitizer \
        --tool "$1" --report-api-errors no --target-processes all --error-exitcode 9 "$python" -m pytest -q --timeout 220 \
        -p no:cacheprovider tests/python/test_engine_cuda.py -k "swcm-post or mt5-llama"
}

export -f build op_tests sanitize sanitize_requests parity
export work python jobs root capability

step device 20 nvidia-smi
step build 480 bash -c build || exit 1
step models 480 "$python" benchmarks/gpu_decode.py "$work/models" --build-only
step op_tests 120 bash -c op_tests
step parity 240 bash -c parity
step triton_tests 200 env TRITON_INTERPRET=0 "$python" -m pytest -q --timeout 180 -p no:cacheprovider \
    tests/python/test_kernels_{layer_mix,transformer_mix,tied_linear,linear_cross_entropy,mix_mapper,models}.py
step memcheck 240 bash -c "sanitize memcheck"
step racecheck 240 bash -c "sanitize racecheck"
step memcheck_requests 240 bash -c "sanitize_requests memcheck"
step racecheck_requests 240 bash -c "sanitize_requests racecheck"
for workload in swcm swcm-tied fusion; do
    batches="1 8 32 128"
    [ $workload = swcm-tied ] && batches="1"
    step "decode-$workload" 180 "$python" benchmarks/gpu_decode.py "$work/models" --workload $workload \
        --batches $batches --peers eager --json "$out/decode-$workload.json"
done
# torch.compile takes minutes to compile: at batch 1 alone, after everything that does not wait for it.
for workload in swcm fusion; do
    step "compile-$workload" 240 "$python" benchmarks/gpu_decode.py "$work/models" --workload $workload --dtypes bfloat16 \
        --batches 1 --beams 1 --peers compile --json "$out/compile-$workload.json"
done
# What starting kernels early gains, and that it changes no token.
step overlap-off 120 env LRENGINE_CUDA_OVERLAP=0 "$python" benchmarks/gpu_decode.py "$work/models" --workload swcm \
    --dtypes bfloat16 --batches 1 --beams 1 --peers --json "$out/overlap-off-swcm.json"
# The same of dependent halves in one launch.
for workload in swcm fusion; do
    step "fuse-off-$workload" 120 env LRENGINE_CUDA_FUSE=0 "$python" benchmarks/gpu_decode.py "$work/models" \
        --workload $workload --dtypes bfloat16 --batches 1 --beams 1 --peers --json "$out/fuse-off-$workload.json"
done
step layer_mix 120 "$python" benchmarks/gpu/layer_mix.py --json "$out/layer_mix.json" --seconds 100
step linear_cross_entropy 60 "$python" benchmarks/gpu/linear_cross_entropy.py --json "$out/linear_cross_entropy.json" --seconds 45
tar -C "$out" -czf "$out/logs.tgz" $(cd "$out" && ls ./*.log)
cat "$out/summary.json"
