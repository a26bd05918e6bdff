// The heads of an attention: products (linear_few_rows.cuh or the matrix library), then one kernel that brings queries
// and keys into place and fills the cache:
//
//     y = x / sqrt(mean(x^2) + eps) * weight,  (y_j, y_{j+d/2}) turned by positions[m] * inv_freq[j]
//
// per head, where there is a norm and a rotation; queries in place, keys in place and to their row of the cache, values
// to theirs. Each element is read once and written once (keys twice if somebody else reads them). One decode row of 32
// and 8 heads of 64 in bfloat16: 12 KiB, 3 ns at 4.3 TB/s (the launch is all of it); 4,096 rows: 48 MiB, a floor of
// 12 us.
// Keys and values that nothing changes on the way go from the product of few rows to the cache's rows.
#include <algorithm>
#include <optional>
#include <vector>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "ops/few_rows_plan.h"

namespace lrengine::cuda {

namespace {

constexpr int kHeadsPerStep = 8;
constexpr int kPairs = 4;  // of a lane
constexpr std::int64_t kMaxHeadDim = 2 * kPairs * kWarp;

// The queries, keys or values.
struct Part {
    MatrixView x, cache;  // cache.data is null when there is none
    const float* norm;    // [d] or null
    float eps;
    int heads;
    bool turns, stays;  // is rotated; is written to x
};

struct HeadsJob {
    Part parts[3];
    const std::int32_t* positions;  // null: nothing turns
    const float* inv_freq;
    const std::int32_t* cache_rows;
    std::int64_t cache_size;  // rows
    int half;
    float attention_scaling;
};

// A head of a row: lane l holds the pairs (j, j + d/2) for j = l, l + 32, ...
struct Pairs {
    float low[kPairs], high[kPairs];
};

__device__ __forceinline__ void load_pairs(const MatrixView& x, std::int64_t row, std::int64_t begin, int half,
                                           Pairs& pairs) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
        const int j = static_cast<int>(threadIdx.x) + i * kWarp;
        pairs.low[i] = j < half ? load(x, row, begin + j) : 0.0f;
        pairs.high[i] = j < half ? load(x, row, begin + half + j) : 0.0f;
    }
}

__device__ __forceinline__ void store_pairs(const MatrixView& x, std::int64_t row, std::int64_t begin, int half,
                                            const Pairs& pairs) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
        const int j = static_cast<int>(threadIdx.x) + i * kWarp;
        if (j >= half) break;
        store(x, row, begin + j, pairs.low[i]);
        store(x, row, begin + half + j, pairs.high[i]);
    }
}

__device__ __forceinline__ void normalize(const Part& part, int half, Pairs& pairs) {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
        squares = fmaf(pairs.low[i], pairs.low[i], squares);
        squares = fmaf(pairs.high[i], pairs.high[i], squares);
    }
    const float factor = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(2 * half) + part.eps);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
        const int j = static_cast<int>(threadIdx.x) + i * kWarp;
        if (j >= half) break;
        pairs.low[i] *= factor * part.norm[j];
        pairs.high[i] *= factor * part.norm[half + j];
    }
}

__device__ __forceinline__ void turn(const float (&sine)[kPairs], const float (&cosine)[kPairs], Pairs& pairs) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
        const float low = pairs.low[i], high = pairs.high[i];
        pairs.low[i] = low * cosine[i] - high * sine[i];
        pairs.high[i] = high * cosine[i] + low * sine[i];
    }
}

// A warp takes a head at a time; blockIdx.x is the row, and the blocks of a row share its heads. Sines and cosines are
// computed once a warp.
__global__ void __launch_bounds__(kWarp* kHeadsPerStep) heads_kernel(const __grid_constant__ HeadsJob job) {
    const std::int64_t row = blockIdx.x;
    wait_for_previous_kernels();
    allow_next_kernel();
    float sine[kPairs] = {}, cosine[kPairs] = {};
    if (job.positions != nullptr) {
        const auto position = static_cast<float>(job.positions[row]);
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
            const int j = static_cast<int>(threadIdx.x) + i * kWarp;
            if (j >= job.half) break;
            sincosf(position * job.inv_freq[j], &sine[i], &cosine[i]);
            sine[i] *= job.attention_scaling;
            cosine[i] *= job.attention_scaling;
        }
    }
    // The host cannot see the row numbers: a row that is not there is left out.
    const std::int64_t to = job.cache_rows != nullptr ? job.cache_rows[row] : 0;
    const bool cached = to >= 0 && to < job.cache_size;
    const int step = static_cast<int>(gridDim.y * blockDim.y);
    int first = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
#pragma unroll 1
    for (const Part& part : job.parts) {
        int head = first;
        for (; head < part.heads; head += step) {
            const std::int64_t begin = static_cast<std::int64_t>(head) * 2 * job.half;
            Pairs pairs;
            load_pairs(part.x, row, begin, job.half, pairs);
            if (part.norm != nullptr) normalize(part, job.half, pairs);
            if (part.turns) turn(sine, cosine, pairs);
            if (part.stays) store_pairs(part.x, row, begin, job.half, pairs);
            if (part.cache.data != nullptr && cached) store_pairs(part.cache, to, begin, job.half, pairs);
        }
        first = head - part.heads;  // heads of all parts are counted through
    }
}

// d, as the first norm or rotation has it; 0 without one.
std::int64_t head_dim_of(const ProjectHeadsArgs& args) {
    for (const auto& rope : {args.query_rope, args.key_rope}) {
        if (rope) return rope->head_dim;
    }
    for (const auto& norm : {args.query_norm, args.key_norm}) {
        if (norm) return norm->x.cols;
    }
    return 0;
}

bool same_rotation(const RopeArgs& a, const RopeArgs& b) {
    return a.positions == b.positions && a.inv_freq.data == b.inv_freq.data &&
           a.attention_scaling == b.attention_scaling;
}

// Whether the norm is an RMSNorm of the heads of x [M, H*d], in place.
bool norms_heads(const NormArgs& norm, const Matrix& x, std::int64_t dim) {
    const bool in_place = norm.x.data == x.data && norm.out.data == x.data && norm.x.dtype == x.dtype;
    const bool rows =
        norm.x.rows == x.rows * (x.cols / dim) && norm.x.cols == dim && norm.x.stride == dim && norm.out.stride == dim;
    return in_place && rows && (x.rows <= 1 || x.stride == x.cols) && norm.kind == NormKind::kRmsNorm && !norm.bias &&
           norm.weight.size == dim;
}

bool turns_heads(const RopeArgs& rope, const Matrix& x, std::int64_t dim) {
    return rope.x.data == x.data && rope.x.dtype == x.dtype && rope.x.rows == x.rows && rope.x.stride == x.stride &&
           rope.heads * dim == x.cols && rope.head_dim == dim && rope.inv_freq.size * 2 == dim;
}

// Whether heads_kernel does these norms and rotations.
bool one_kernel_does(const ProjectHeadsArgs& args) {
    const std::int64_t dim = head_dim_of(args);
    if (dim == 0 || dim % 2 != 0 || dim > kMaxHeadDim || args.products.size() != 3) return false;
    for (const LinearArgs& product : args.products) {
        if (product.out.cols % dim != 0 || product.out.rows != args.products.front().out.rows) return false;
    }
    const Matrix &query = args.products[0].out, &key = args.products[1].out;
    if (args.query_norm && !norms_heads(*args.query_norm, query, dim)) return false;
    if (args.key_norm && !norms_heads(*args.key_norm, key, dim)) return false;
    if (args.query_rope && !turns_heads(*args.query_rope, query, dim)) return false;
    if (args.key_rope && !turns_heads(*args.key_rope, key, dim)) return false;
    return !args.query_rope || !args.key_rope || same_rotation(*args.query_rope, *args.key_rope);
}

Part part_of(const Matrix& x, const std::optional<NormArgs>& norm, bool turns, const Matrix& cache, bool stays,
             std::int64_t dim) {
    Part part{view_of(x), view_of(cache), nullptr, 0.0f, static_cast<int>(x.cols / dim), turns, stays};
    if (norm) part.norm = norm->weight.data;
    if (norm) part.eps = norm->eps;
    return part;
}

// What is left to do behind the products. `direct`: they put what nothing changes into the cache.
HeadsJob job_of(const ProjectHeadsArgs& args, bool direct) {
    const std::int64_t dim = head_dim_of(args);
    const Matrix &query = args.products[0].out, &key = args.products[1].out, &value = args.products[2].out;
    const bool query_changes = args.query_norm || args.query_rope, key_changes = args.key_norm || args.key_rope;
    const bool to_cache = args.key_cache && !direct, stays = !args.key_cache || !args.cache_only;
    HeadsJob job{};
    if (query_changes) job.parts[0] = part_of(query, args.query_norm, args.query_rope.has_value(), {}, true, dim);
    if (key_changes || to_cache) {
        job.parts[1] =
            part_of(key, args.key_norm, args.key_rope.has_value(), args.key_cache, key_changes && stays, dim);
    }
    if (to_cache) job.parts[2] = part_of(value, std::nullopt, false, args.value_cache, false, dim);
    if (const auto& rope = args.query_rope ? args.query_rope : args.key_rope) {
        job.positions = rope->positions;
        job.inv_freq = rope->inv_freq.data;
        job.attention_scaling = rope->attention_scaling;
    }
    job.cache_rows = args.key_cache ? args.cache_rows : nullptr;
    job.cache_size = args.key_cache.rows;
    job.half = static_cast<int>(dim / 2);
    return job;
}

void run_heads(const Device& device, LaunchQueue& queue, const HeadsJob& job, std::int64_t rows) {
    const std::int64_t heads = job.parts[0].heads + job.parts[1].heads + job.parts[2].heads;
    if (heads == 0 || rows == 0) return;
    // Few rows: a warp a head. Many: they fill the device, and a warp's sines serve several heads.
    const std::int64_t together = std::min<std::int64_t>(heads, kHeadsPerStep);
    const std::int64_t shares =
        std::clamp<std::int64_t>(divide_up(2 * device.processors(), rows), 1, divide_up(heads, together));
    launch(queue,
           {dim3(static_cast<unsigned>(rows), static_cast<unsigned>(shares)),
            dim3(kWarp, static_cast<unsigned>(together))},
           heads_kernel, job);
}

void check_cache(const ProjectHeadsArgs& args) {
    expect(args.products.size() == 3 && args.cache_rows != nullptr,
           "project_heads: not q, k and v with rows of a cache");
    const Matrix &key = args.products[1].out, &value = args.products[2].out;
    expect(has_shape(args.key_cache, args.key_cache.rows, key.cols) &&
               has_shape(args.value_cache, args.key_cache.rows, value.cols),
           "project_heads: cache and product differ in columns");
}

void send_to_rows(Product& product, const Matrix& cache, const std::int32_t* rows) {
    product.out = view_of(cache);
    product.out_rows = rows;
}

}  // namespace

void CudaBackend::project_heads(const ProjectHeadsArgs& args) {
    if (args.key_cache) check_cache(args);
    const bool keys_change = args.key_norm || args.key_rope;
    const bool changes = keys_change || args.query_norm || args.query_rope;
    std::vector<LinearArgs> products(args.products.begin(), args.products.end());
    products.insert(products.end(), args.beside.begin(), args.beside.end());
    std::optional<FewRowsPlan> plan = plan_together(*device_, args.norm, products);
    if (!plan && !args.beside.empty() && has_few_rows(args.products.front())) {
        // Better one launch for few heads, and one weight read twice, than theirs among the many rows beside them.
        ProjectHeadsArgs alone = args;
        alone.beside = {};
        project_heads(alone);
        linear(args.beside);
        return;
    }
    // Three products, also if others have joined them.
    const bool direct = plan && args.key_cache && args.cache_only && plan->products.count == 3;
    if (changes ? !one_kernel_does(args) : !direct) return Backend::project_heads(args);
    if (direct) {
        if (!keys_change) send_to_rows(plan->products.items[1], args.key_cache, args.cache_rows);
        send_to_rows(plan->products.items[2], args.value_cache, args.cache_rows);
        run_few_rows(queue_, args.products.front().weight.dtype, *plan);
    } else {
        normed_linear({.norm = args.norm, .products = products});
    }
    if (changes) run_heads(*device_, queue_, job_of(args, direct), args.products.front().out.rows);
}

}  // namespace lrengine::cuda
