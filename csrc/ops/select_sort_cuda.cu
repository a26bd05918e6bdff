// The k largest of each row by sorting, for k > 32.
//
// A key is a candidate as one number: the logit's bits, turned so that larger logits are smaller numbers, above the id;
// so keys rise from the best candidate to the worst, and ties go by the id. k <= 2048: blocks sort 4096 keys each in
// shared memory and keep the best k, until one block is left. Larger k: a bitonic network over all keys in memory
// (Batcher 1968), a launch a step. Bytes: the logits once, and in the first case then 8 k / 4096 of each element; V =
// 135,359, k = 50: 0.55 MB a row, 0.13 us at 4.3 TB/s, but 78 steps of the network in shared memory a round, about 10
// us, twice.
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/device.cuh"
#include "ops/select_plan.h"

namespace lrengine::cuda {

namespace {

using Key = unsigned long long;

constexpr int kThreads = 512;
constexpr int kChunk = 4096;             // keys that a block sorts: 32 KB
constexpr std::int64_t kMaxKept = 2048;  // half of a chunk: each round halves what is left, or better
constexpr Key kNoKey = ~Key{0};

__device__ __forceinline__ Key key_of(float logit, int id) {
    const unsigned bits = __float_as_uint(candidate_of(logit, id).value + 0.0f);  // -0 becomes +0: they are equal
    const unsigned rising = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return static_cast<Key>(~rising) << 32 | static_cast<unsigned>(id);
}

__device__ __forceinline__ float value_of(Key key) {
    const unsigned rising = ~static_cast<unsigned>(key >> 32);
    return __uint_as_float((rising & 0x80000000u) != 0 ? rising & 0x7fffffffu : ~rising);
}

// One comparator of the network: pair i of the step at `distance` in the stage that sorts runs of `run` keys.
__device__ __forceinline__ void compare(Key* keys, std::int64_t i, std::int64_t distance, std::int64_t run) {
    const std::int64_t low = 2 * i - (i & (distance - 1)), high = low + distance;
    const Key a = keys[low], b = keys[high];
    if ((a > b) == ((low & run) == 0)) {
        keys[low] = b;
        keys[high] = a;
    }
}

// Rows of keys.
struct Keys {
    Key* data;
    std::int64_t stride;
};

// Grid: rows, chunks. `source` has `size` keys a row, or, if null, they are made of the logits. The best `kept` of
// chunk c go to c * kept of the target.
__global__ void __launch_bounds__(kThreads)
    sort_chunks_kernel(MatrixView logits, Keys source, int size, Keys target, int kept) {
    LRENGINE_SHARED(Key, keys, kChunk);
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.x;
    const int thread = static_cast<int>(threadIdx.x), first = static_cast<int>(blockIdx.y) * kChunk;
    for (int i = thread; i < kChunk; i += kThreads) {
        const int at = first + i;
        keys[i] = at >= size               ? kNoKey
                  : source.data != nullptr ? source.data[row * source.stride + at]
                                           : key_of(load(logits, row, at), at);
    }
    __syncthreads();
    for (int run = 2; run <= kChunk; run *= 2) {
        for (int distance = run / 2; distance > 0; distance /= 2) {
            for (int i = thread; i < kChunk / 2; i += kThreads) compare(keys, i, distance, run);
            __syncthreads();
        }
    }
    for (int i = thread; i < kept; i += kThreads) {
        target.data[row * target.stride + static_cast<std::int64_t>(blockIdx.y) * kept + i] = keys[i];
    }
}

// Grid: rows, blocks. Keys [size, stride) are filled up.
__global__ void __launch_bounds__(kThreads) make_keys_kernel(MatrixView logits, int size, Keys keys) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.x, i = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x;
    if (i >= keys.stride) return;
    keys.data[row * keys.stride + i] = i < size ? key_of(load(logits, row, i), static_cast<int>(i)) : kNoKey;
}

// Grid: rows, blocks. One step of the network.
__global__ void __launch_bounds__(kThreads) step_kernel(Keys keys, std::int64_t distance, std::int64_t run) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x;
    if (i < keys.stride / 2) compare(keys.data + blockIdx.x * keys.stride, i, distance, run);
}

// Grid: rows, blocks. The first k keys of each row as candidates.
__global__ void __launch_bounds__(kThreads) write_kernel(Keys keys, int k, MatrixView values, std::int32_t* ids) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.x;
    const int i = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x);
    if (i >= k) return;
    const Key key = keys.data[row * keys.stride + i];
    store(values, row, i, value_of(key));
    ids[row * k + i] = static_cast<std::int32_t>(key & 0xffffffffu);
}

dim3 grid_of(std::int64_t rows, std::int64_t elements) {
    return dim3(static_cast<unsigned>(rows), static_cast<unsigned>(divide_up(elements, kThreads)));
}

std::int64_t chunks_of(std::int64_t size) { return divide_up(size, kChunk); }

// Keys a row of the rounds' two buffers, or of the network.
std::int64_t stride_of(const TopKArgs& args) {
    if (args.k <= kMaxKept) return chunks_of(args.logits.cols) * args.k;
    std::int64_t stride = 2;
    while (stride < args.logits.cols) stride *= 2;
    return stride;
}

// Returns the sorted keys.
Keys sort_by_rounds(LaunchQueue& queue, const TopKArgs& args, Keys target, Keys other) {
    const auto rows = static_cast<unsigned>(args.logits.rows);
    const auto kept = static_cast<int>(args.k);
    Keys source{nullptr, 0};
    for (std::int64_t size = args.logits.cols;; size = chunks_of(size) * kept) {
        const std::int64_t chunks = chunks_of(size);
        launch(queue, {dim3(rows, static_cast<unsigned>(chunks)), dim3(kThreads)}, sort_chunks_kernel,
               view_of(args.logits), source, static_cast<int>(size), target, kept);
        if (chunks == 1) return target;
        source = target;
        std::swap(target, other);
    }
}

void sort_by_network(LaunchQueue& queue, const TopKArgs& args, const Keys& keys) {
    const std::int64_t rows = args.logits.rows;
    launch(queue, {grid_of(rows, keys.stride), dim3(kThreads)}, make_keys_kernel, view_of(args.logits),
           static_cast<int>(args.logits.cols), keys);
    for (std::int64_t run = 2; run <= keys.stride; run *= 2) {
        for (std::int64_t distance = run / 2; distance > 0; distance /= 2) {
            launch(queue, {grid_of(rows, keys.stride / 2), dim3(kThreads)}, step_kernel, keys, distance, run);
        }
    }
}

}  // namespace

std::size_t sort_scratch(const TopKArgs& args) {
    Pieces pieces;
    for (int i = 0; i < 2; ++i) pieces.take<Key>(args.logits.rows * stride_of(args));
    return pieces.used();
}

void run_sort(LaunchQueue& queue, const TopKArgs& args, void* scratch) {
    const std::int64_t rows = args.logits.rows, stride = stride_of(args);
    Pieces pieces(scratch);
    Keys keys{pieces.take<Key>(rows * stride), stride};
    if (args.k <= kMaxKept) {
        keys = sort_by_rounds(queue, args, keys, {pieces.take<Key>(rows * stride), stride});
    } else {
        sort_by_network(queue, args, keys);
    }
    launch(queue, {grid_of(rows, args.k), dim3(kThreads)}, write_kernel, keys, static_cast<int>(args.k),
           view_of(args.values), args.ids);
}

}  // namespace lrengine::cuda
