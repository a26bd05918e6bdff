// Products of few rows (M <= 16), for linear(), gated_linear() and project_top_k():
//
//     sum[m, n] = sum over k of x[m, k] weight[n, k]        (float32)
//
// Bytes: the weight once, also for the rows of several products of a call that read it (tied projections: self and
// cross keys); x from the second-level cache once a block. Each warp reads 4 rows of the weight (of a pair
// of products 2 rows of each), 16 bytes a lane and row (one step), the next step's words in flight while this one's are
// multiplied. The first words are asked for before the kernel waits for the one ahead of it. x lies in shared memory as
// float32, in the order that makes a lane's reads free of bank conflicts. Sums over lanes and warps are in a fixed
// order: the same bits at every run.
#pragma once

#include "ops/few_rows_stage.cuh"

namespace lrengine::cuda {

// Weights are read once: they pass by the first-level cache.
__device__ __forceinline__ uint4 load_streamed(const void* at) {
#if defined(__CUDA_ARCH__)
    uint4 words;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(at));
    return words;
#else
    return *static_cast<const uint4*>(at);
#endif
}

// Elements 4 * quad to 4 * quad + 3 of 16 bytes of a weight.
template <DType kType>
__device__ __forceinline__ void unpack_quad(const uint4& packed, int quad, float (&values)[4]) {
    const unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
    if constexpr (kType == DType::kFloat32) {
#pragma unroll
        for (int i = 0; i < 4; ++i) values[i] = __uint_as_float(words[i]);
    } else if constexpr (kType == DType::kInt8) {
        // 2^23 + u has u in its low bits for u < 2^23: cheaper than a conversion, of which a processor does 16 a clock.
        const unsigned shifted = words[quad] ^ 0x80808080u;  // value + 128
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            values[i] = __uint_as_float(0x4b000000u | (shifted >> (8 * i) & 0xffu)) - (8388608.0f + 128.0f);
        }
    } else {
        unpack_pair(words[2 * quad], kType, values);
        unpack_pair(words[2 * quad + 1], kType, values + 2);
    }
}

// What a lane reads of kOutputs rows at a time.
template <DType kType>
struct Packet {
    uint4 words[kOutputs];
};

template <>
struct Packet<DType::kInt4> {
    uint4 words[kOutputs];
    unsigned short scales[kOutputs];  // bfloat16: a block is within a group
};

template <int kRows, DType kType>
__device__ __forceinline__ void unpack_quads(const Packet<kType>& packet, int quad, float (&weights)[kOutputs][4]) {
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) unpack_quad<kType>(packet.words[r], quad, weights[r]);
}

// A level in bits p to p + 3 of a float with the exponent of 2^(23 - p) is 2^(23 - p) + level: one operation of logic.
// Few rows: one fused multiply-add makes it scale * (level - 8), exactly, as scale * (2^(23 - p) + 8) fits float32 for
// p >= 8; two shifts bring all eight levels of a word to p = 8, 12 or 16. More rows, whose sums fill the registers: no
// constants are kept, one shift, and an addition and a product.
template <int kPlace>
__device__ __forceinline__ float scaled_level(unsigned word, float scale) {
    constexpr float kZero = static_cast<float>(1 << (23 - kPlace)) + 8.0f;
    const float level = __uint_as_float((word & (15u << kPlace)) | (127u + 23u - kPlace) << 23);
    return fmaf(level, scale, -kZero * scale);
}

template <int kPlace>
__device__ __forceinline__ float level_times(unsigned word, float scale) {
    constexpr float kZero = static_cast<float>(1 << (23 - kPlace)) + 8.0f;
    return (__uint_as_float((word & (15u << kPlace)) | (127u + 23u - kPlace) << 23) - kZero) * scale;
}

template <int kRows>
__device__ __forceinline__ void unpack_quads(const Packet<DType::kInt4>& packet, int quad,
                                             float (&weights)[kOutputs][4]) {
    const bool high = quad >= 4;  // halves of the bytes: levels are at 8 i + 4 or at 8 i
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) {
        const unsigned words[4] = {packet.words[r].x, packet.words[r].y, packet.words[r].z, packet.words[r].w};
        const unsigned word = words[quad % 4], up = word << 8, down = word >> 12;
        const float scale = __uint_as_float(static_cast<unsigned>(packet.scales[r]) << 16);
        if constexpr (kRows <= 2) {
            weights[r][0] = high ? scaled_level<12>(up, scale) : scaled_level<8>(up, scale);
            weights[r][1] = high ? scaled_level<12>(word, scale) : scaled_level<8>(word, scale);
            weights[r][2] = high ? scaled_level<8>(down, scale) : scaled_level<16>(word, scale);
            weights[r][3] = high ? scaled_level<16>(down, scale) : scaled_level<12>(down, scale);
        } else {
            weights[r][0] = high ? level_times<4>(word, scale) : level_times<0>(word, scale);
            weights[r][1] = high ? level_times<12>(word, scale) : level_times<8>(word, scale);
            weights[r][2] = high ? level_times<8>(down, scale) : level_times<16>(word, scale);
            weights[r][3] = high ? level_times<16>(down, scale) : level_times<12>(down, scale);
        }
    }
}

// sums[r * kRows + m] += the products of this lane's columns. `staged`: this lane's first quad of the chunk in row 0.
template <DType kType, int kRows>
__device__ __forceinline__ void accumulate(const Packet<kType>& packet, const float* staged, int row_length,
                                           float (&sums)[kOutputs * kRows]) {
#pragma unroll
    for (int quad = 0; quad < per_load(kType) / 4; ++quad) {
        float weights[kOutputs][4];
        unpack_quads<kRows>(packet, quad, weights);
#pragma unroll
        for (int m = 0; m < kRows; ++m) {
            const float4 x = *reinterpret_cast<const float4*>(staged + m * row_length + quad * 4 * kWarp);
#pragma unroll
            for (int r = 0; r < kOutputs; ++r) {
                float& sum = sums[r * kRows + m];
                sum = fmaf(x.x, weights[r][0], sum);
                sum = fmaf(x.y, weights[r][1], sum);
                sum = fmaf(x.z, weights[r][2], sum);
                sum = fmaf(x.w, weights[r][3], sum);
            }
        }
    }
}

// Sums each of kCount values (a power of two) over the warp in kCount - 1 shuffles or a few more: at every offset a
// lane gives away the half that its partner keeps. What this lane then holds: see Totals.
template <int kCount, int kOffset = kWarp / 2>
__device__ __forceinline__ void sum_over_lanes(float* values, int lane) {
    if constexpr (kOffset > 0 && kCount > 1) {
        constexpr int kHalf = kCount / 2;
        const bool upper = (lane & kOffset) != 0;
#pragma unroll
        for (int i = 0; i < kHalf; ++i) {
            const float given = upper ? values[i] : values[i + kHalf];
            const float kept = upper ? values[i + kHalf] : values[i];
            values[i] = kept + __shfl_xor_sync(kAllLanes, given, kOffset);
        }
        sum_over_lanes<kHalf, kOffset / 2>(values, lane);
    } else if constexpr (kOffset > 0) {
        values[0] += __shfl_xor_sync(kAllLanes, values[0], kOffset);
        sum_over_lanes<1, kOffset / 2>(values, lane);
    }
}

// After sum_over_lanes() lane `lane` holds the totals [first, first + kHeld), if it is an owner; the others hold
// copies.
template <int kCount>
struct Totals {
    static constexpr int kHeld = kCount > kWarp ? kCount / kWarp : 1;
    static constexpr int kCopies = kCount < kWarp ? kWarp / kCount : 1;

    __device__ static int first(int lane) { return lane / kCopies * kHeld; }
    __device__ static bool owns(int lane) { return lane % kCopies == 0; }
};

// A sink that makes x itself: stage<type, rows>(product, first column, columns, staged, shared memory for partial
// sums).
template <typename Sink>
concept MakesInput = requires(const Sink sink, const Product& product, float* shared) {
    sink.template stage<DType::kFloat32, 1>(product, 0, 0, shared, shared);
};

// Tiles begin, begin + stride, ... below end.
struct TileRange {
    int begin, end, stride;
};

// One block's part of the products. sink.take(product, m, n, sum) is called once for every element of its tiles, by any
// thread; sink.end_tile(tile), by all threads after each tile. Sink::kTakesNorm: the products may have a norm.
// Sink::kTakesPair: the list is a pair, and take() gets the sums of both, (product, m, n, sum, second).
template <DType kType, int kRows, typename Sink, typename List = Products>
class Multiplier {
public:
    // `shared`: stretch * per_chunk * kRows floats for x and 2 * kMaxWarps * kOutputs * kRows for partial sums.
    // Warps beyond the plan's groups have no work, but must come along.
    __device__ Multiplier(const List& list, float* shared, Sink& sink)
        : list_(list),
          staged_(shared),
          partial_(shared + list.stretch * kChunk * kRows),
          sink_(sink),
          lane_(static_cast<int>(threadIdx.x) % kWarp),
          split_(static_cast<int>(threadIdx.x) / kWarp % list.splits),
          group_(static_cast<int>(threadIdx.x) / kWarp / list.splits),
          active_(group_ < list.groups) {}

    // Holds the kernel's wait_for_previous_kernels().
    __device__ __forceinline__ void run(const TileRange& range) {
        start(range);
        wait_for_previous_kernels();
        allow_next_kernel();
        multiply();
    }

    // Asks for the first words of these tiles: nothing but weights.
    __device__ __forceinline__ void start(const TileRange& range) {
        range_ = range;
        at_ = {range.begin, 0, 0, steps(list_.items[0])};
        find_product(at_);
        current_ = fetch(at_);
    }

    // The products of the tiles that were started.
    __device__ __forceinline__ void multiply() {
        while (at_.tile < range_.end) {
            const Product& product = list_.items[at_.product];
            Cursor next = at_;
            if (++next.step == at_.steps) {
                next.tile += range_.stride;
                next.step = 0;
                find_product(next);
            }
            const int chunk = at_.step * list_.splits + split_, begin = stage_stretch_of(product, chunk);
            const Packet<kType> ahead = fetch(next);
            if (active_) {
                accumulate<kType, kRows>(current_, staged_ + (chunk - begin) * kChunk + lane_ * 4,
                                         list_.stretch * kChunk, sums_);
            }
            if (next.tile != at_.tile) finish(product, at_.tile);
            at_ = next;
            current_ = ahead;
        }
    }

private:
    static constexpr int kChunk = per_chunk(kType);
    static constexpr int kCount = kOutputs * kRows;
    static constexpr int kWidth = Sink::kTakesPair ? kPairOutputs : kOutputs;  // outputs of a group
    static constexpr int kTaken = kWidth * kRows;  // of the kCount sums; their seconds, if there are any, follow
    // Short lists are one product, or a pair: nothing shares a weight with it.
    static constexpr bool kMerges = kRows > 1 && List::kMost > 2;

    struct Cursor {
        int tile, product, step, steps;
    };

    __device__ __forceinline__ int steps(const Product& product) const {
        const int chunks = (product.cols + kChunk - 1) / kChunk;
        const int steps = (chunks + list_.splits - 1) / list_.splits;
        return steps > 0 ? steps : 1;
    }

    // Tiles only ever rise.
    __device__ __forceinline__ void find_product(Cursor& at) const {
        while (at.product + 1 < list_.count && at.tile >= list_.items[at.product + 1].first_tile) {
            at.steps = steps(list_.items[++at.product]);
        }
    }

    __device__ bool fuses_norm() const { return Sink::kTakesNorm && list_.norm.x.matrix.data != nullptr; }

    __device__ __forceinline__ int first_output(const Product& product, int tile, int group) const {
        return ((tile - product.first_tile) * list_.groups + group) * kWidth;
    }

    __device__ __forceinline__ Packet<kType> fetch(const Cursor& at) const {
        const Product& product = list_.items[at.product];
        const int k = (at.step * list_.splits + split_) * kChunk + lane_ * per_load(kType);
        Packet<kType> packet{};
        if (!active_ || at.tile >= range_.end || k >= product.cols) return packet;
        const int n = first_output(product, at.tile, group_), last = product.outputs - 1;
#pragma unroll
        for (int r = 0; r < kOutputs; ++r) {
            const Product& read = r < kWidth ? product : list_.items[1];
            const std::int64_t wanted = n + r % kWidth, row = wanted < last ? wanted : last;
            const std::int64_t loads = (row * product.cols + k) / per_load(kType);
            packet.words[r] = load_streamed(static_cast<const uint4*>(read.weight) + loads);
            if constexpr (kType == DType::kInt4) {
                const std::int64_t groups = ((product.cols - 1) >> read.group_shift) + 1;
                packet.scales[r] = __ldg(read.group_scales + row * groups + (k >> read.group_shift));
            }
        }
        return packet;
    }

    // Sees to it that this x's stretch with `chunk` is in shared memory; returns the stretch's first chunk. Chunks of
    // one step are in one stretch: it is a multiple of `splits` long.
    __device__ __forceinline__ int stage_stretch_of(const Product& product, int chunk) {
        const int begin = chunk < list_.stretch ? 0 : chunk / list_.stretch * list_.stretch;
        if (product.x_number == staged_x_ && begin == staged_begin_) return begin;
        staged_x_ = product.x_number;
        staged_begin_ = begin;
        __syncthreads();
        const int length = list_.stretch * kChunk;
        if constexpr (MakesInput<Sink>) {
            sink_.template stage<kType, kRows>(product, begin * kChunk, length, staged_, partial_);
            __syncthreads();
        } else {
            stage_input(product, begin * kChunk, length);
        }
        return begin;
    }

    __device__ __forceinline__ void stage_input(const Product& product, int begin, int length) {
        const PackedView& x = fuses_norm() ? list_.norm.x : product.x;
        stage<kType, kRows>(x, product.rows, product.cols, begin, length, staged_);
        __syncthreads();
        if constexpr (kMerges) stage_merged(product, begin, length);
        if (fuses_norm()) {
            normalize<kType>(list_.norm, product.rows, product.cols, length, range_.begin == 0, staged_, partial_);
            __syncthreads();
        }
    }

    // The x of the products that share this one's weight, behind its own.
    __device__ __forceinline__ void stage_merged(const Product& product, int begin, int length) {
        if (product.more_x == 0) return;
        int row = product.rows;
        for (int item = product.more_x; item != 0; item = list_.items[item].more) {
            const Product& more = list_.items[item];
            stage<kType, kRows>(more.x, more.rows, more.cols, begin, length, staged_ + row * length, more.rows);
            row += more.rows;
        }
        __syncthreads();
    }

    template <typename... Second>
    __device__ __forceinline__ void take(const Product& product, int first_output, int index, float sum,
                                         Second... second) {
        const int n = first_output + index / kRows;
        int m = index % kRows;
        const Product* own = &product;
        if constexpr (kMerges) {
            while (m >= own->rows && own->more != 0) {
                m -= own->rows;
                own = &list_.items[own->more];
            }
        }
        if (n < product.outputs && m < own->rows) sink_.take(*own, m, n, sum, second...);
    }

    __device__ __forceinline__ void finish(const Product& product, int tile) {
        if (active_) sum_over_lanes<kCount>(sums_, lane_);
        const int first = Totals<kCount>::first(lane_);
        if (list_.splits > 1) {
            finish_split(product, tile, first);
        } else if constexpr (Sink::kTakesPair) {
            if (active_) finish_pair(product, tile, first);
        } else if (active_ && Totals<kCount>::owns(lane_)) {
            const int output = first_output(product, tile, group_);
#pragma unroll
            for (int i = 0; i < Totals<kCount>::kHeld; ++i) take(product, output, first + i, sums_[i]);
        }
        sink_.end_tile(tile);
#pragma unroll
        for (int i = 0; i < kCount; ++i) sums_[i] = 0.0f;
    }

    // The second half of the sums is in the second half of the lanes.
    __device__ __forceinline__ void finish_pair(const Product& product, int tile, int first) {
        const int output = first_output(product, tile, group_);
#pragma unroll
        for (int i = 0; i < Totals<kCount>::kHeld; ++i) {
            const float second = __shfl_xor_sync(kAllLanes, sums_[i], kWarp / 2);
            const bool mine = Totals<kCount>::owns(lane_) && lane_ < kWarp / 2;
            if (mine) take(product, output, first + i, sums_[i], second);
        }
    }

    // The partial sums of the warps of a group, added up in their order. The two buffers take turns: whoever writes one
    // again has passed the other's barrier, and so have its readers.
    __device__ __forceinline__ void finish_split(const Product& product, int tile, int first) {
        float* partial = partial_ + (turn_ ? kMaxWarps * kCount : 0);
        turn_ = !turn_;
        if (active_ && Totals<kCount>::owns(lane_)) {
            float* mine = partial + (group_ * list_.splits + split_) * kCount + first;
#pragma unroll
            for (int i = 0; i < Totals<kCount>::kHeld; ++i) mine[i] = sums_[i];
        }
        __syncthreads();
        for (int i = static_cast<int>(threadIdx.x); i < list_.groups * kTaken; i += static_cast<int>(blockDim.x)) {
            const int group = i / kTaken, index = i % kTaken, output = first_output(product, tile, group);
            const float* parts = partial + group * list_.splits * kCount + index;
            if constexpr (Sink::kTakesPair) {
                take(product, output, index, sum_of_splits(parts), sum_of_splits(parts + kTaken));
            } else {
                take(product, output, index, sum_of_splits(parts));
            }
        }
    }

    __device__ __forceinline__ float sum_of_splits(const float* parts) const {
        float sum = 0.0f;
        for (int s = 0; s < list_.splits; ++s) sum += parts[s * kCount];
        return sum;
    }

    const List& list_;
    float* staged_;
    float* partial_;
    Sink& sink_;
    const int lane_, split_, group_;
    const bool active_;
    TileRange range_{};
    Cursor at_{};
    Packet<kType> current_;  // of at_
    float sums_[kCount] = {};
    int staged_x_ = -1, staged_begin_ = -1;
    bool turn_ = false;
};

}  // namespace lrengine::cuda
