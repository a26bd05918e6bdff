// The best k of many, and the log-sum-exp of all, as warps keep them: what top_k() and project_top_k() share.
#pragma once

#include <climits>

#include "cuda/device.cuh"

namespace lrengine::cuda {

constexpr int kMaxListed = kWarp;  // the longest list: a candidate a lane

__device__ __forceinline__ float minus_infinity() { return __int_as_float(static_cast<int>(0xff800000u)); }

__device__ __forceinline__ bool is_finite(float value) { return fabsf(value) < -minus_infinity(); }

struct Candidate {
    float value;
    int id;
};

// After all others.
__device__ __forceinline__ Candidate no_candidate() { return {minus_infinity(), INT_MAX}; }

__device__ __forceinline__ bool better(const Candidate& a, const Candidate& b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// To the largest, NaN is -inf.
__device__ __forceinline__ Candidate candidate_of(float logit, int id) {
    return {logit == logit ? logit : minus_infinity(), id};
}

__device__ __forceinline__ Candidate shuffle(const Candidate& mine, int lane) {
    return {__shfl_sync(kAllLanes, mine.value, lane), __shfl_sync(kAllLanes, mine.id, lane)};
}

// The best k that a warp was shown: lane i holds the i-th. What lanes from k on hold is some candidate.
class BestList {
public:
    // One candidate a lane, in any order; all lanes call, with the same k every time.
    __device__ __forceinline__ void show(const Candidate& shown, int k) {
        const int lane = static_cast<int>(threadIdx.x) % kWarp;
        unsigned hits = __ballot_sync(kAllLanes, better(shown, shuffle(mine_, k - 1)));
        while (hits != 0) {
            const int source = __ffs(static_cast<int>(hits)) - 1;
            const Candidate added = shuffle(shown, source);
            const int rank = __popc(__ballot_sync(kAllLanes, better(mine_, added)));
            const Candidate above{__shfl_up_sync(kAllLanes, mine_.value, 1), __shfl_up_sync(kAllLanes, mine_.id, 1)};
            if (lane == rank) mine_ = added;
            if (lane > rank) mine_ = above;
            const bool hit = better(shown, shuffle(mine_, k - 1));
            hits = __ballot_sync(kAllLanes, hit && lane > source);
        }
    }

    __device__ const Candidate& mine() const { return mine_; }

private:
    Candidate mine_ = no_candidate();
};

// Of numbers x: the largest, and the sum of exp(x - largest). A NaN stays in the sum.
struct ExpSum {
    float largest;
    float sum;

    __device__ static ExpSum of_nothing() { return {minus_infinity(), 0.0f}; }

    // exp(from - to) for from <= to, infinities included.
    __device__ static float factor(float from, float to) { return from == to ? 1.0f : expf(from - to); }

    __device__ __forceinline__ void add(float x) { add(ExpSum{x, x == x ? 1.0f : x}); }

    __device__ __forceinline__ void add(const ExpSum& other) {
        const float both = fmaxf(largest, other.largest);  // the one that is a number
        const float mine = sum * factor(largest, both);
        sum = mine + (other.sum == other.sum ? other.sum * factor(other.largest, both) : other.sum);
        largest = both;
    }

    // Over the lanes of the warp; every lane gets it, by the same additions.
    __device__ __forceinline__ void add_lanes() {
        for (int offset = kWarp / 2; offset > 0; offset /= 2) {
            add(ExpSum{__shfl_xor_sync(kAllLanes, largest, offset), __shfl_xor_sync(kAllLanes, sum, offset)});
        }
    }

    __device__ float log() const {
        if (sum != sum) return sum;
        return fabsf(largest) == -minus_infinity() ? largest : largest + logf(sum);
    }
};

// What stretches of rows came to. A list's rank is its slowest index, so that a reader meets the best first.
struct Partials {
    float* values;  // [M, k, parts]
    int* ids;       // [M, k, parts]
    ExpSum* sums;   // [M, parts]
    int k, parts;

    __device__ std::int64_t index(std::int64_t row, int rank, int part) const {
        return (row * k + rank) * parts + part;
    }

    // By a whole warp.
    __device__ __forceinline__ void store(std::int64_t row, int part, const BestList& best, const ExpSum& sum) const {
        const int lane = static_cast<int>(threadIdx.x) % kWarp;
        if (lane < k) {
            values[index(row, lane, part)] = best.mine().value;
            ids[index(row, lane, part)] = best.mine().id;
        }
        if (lane == 0) sums[row * parts + part] = sum;
    }
};

}  // namespace lrengine::cuda
