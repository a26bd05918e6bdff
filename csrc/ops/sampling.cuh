// Drawing from a row of scores by a block: random numbers, and searches for the place where mass adds up to a number.
#pragma once

#include <cfloat>

#include "ops/candidates.cuh"
#include "ops/take_tokens.cuh"

namespace lrengine::cuda {

constexpr int kSampleThreads = 256;

struct ScoreRange {
    float largest, farthest;
};

struct SampleJob {
    float* scores;  // [M, stride], divided by the temperature
    std::int64_t stride;
    int size;
    float temperature;
    bool filters_k;  // the last of the sorted is the k-th: what is below it goes
    double top_p;
    const std::uint64_t* streams;   // [M, 2]: seed, stream
    const std::int32_t* generated;  // [M]
    std::int32_t* ids;              // [M]
    int parts;                      // stretches of a row
    ScoreRange* ranges;             // [M, parts]
    double* masses;                 // [M, parts]
    float* sorted;                  // [M, sorted_count], falling, ties by the smaller id
    std::int32_t* sorted_ids;
    int sorted_count;

    __device__ float* row(std::int64_t m) const { return scores + m * stride; }
};

// Philox4x32-10 and the 53 bits of it that decode/random.h takes.
__device__ __forceinline__ double uniform_number(std::uint64_t seed, std::uint64_t stream, unsigned step,
                                                 unsigned index) {
    unsigned counter[4]{index, step, static_cast<unsigned>(stream), static_cast<unsigned>(stream >> 32)};
    unsigned key[2]{static_cast<unsigned>(seed), static_cast<unsigned>(seed >> 32)};
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter[0];
        const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter[2];
        counter[0] = static_cast<unsigned>(product1 >> 32) ^ counter[1] ^ key[0];
        counter[1] = static_cast<unsigned>(product1);
        counter[2] = static_cast<unsigned>(product0 >> 32) ^ counter[3] ^ key[1];
        counter[3] = static_cast<unsigned>(product0);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    const std::uint64_t bits = static_cast<std::uint64_t>(counter[0]) << 21 ^ (counter[1] >> 11);
    return (static_cast<double>(bits & ((std::uint64_t{1} << 53) - 1)) + 0.5) * 0x1.0p-53;
}

// A row's scores as probabilities that are not normalised: the largest has 1.
class SampledRow {
public:
    __device__ SampledRow(const SampleJob& job, std::int64_t m)
        : scores_(job.row(m)),
          sorted_(job.sorted + m * job.sorted_count),
          sorted_ids_(job.sorted_ids + m * job.sorted_count),
          size_(job.size),
          sorted_count_(job.sorted_count),
          largest_(sorted_[0]),
          least_(job.filters_k ? sorted_[job.sorted_count - 1] : minus_infinity()) {}

    __device__ int size() const { return size_; }
    __device__ float score(int id) const { return scores_[id]; }
    __device__ double mass_of(float score) const {
        if (!is_finite(largest_)) return score == largest_ ? 1.0 : 0.0;
        return exp(static_cast<double>(score) - largest_);
    }
    // 0 where top_k leaves the token out.
    __device__ double mass(int id) const { return scores_[id] >= least_ ? mass_of(scores_[id]) : 0.0; }
    __device__ bool stays(int id) const { return scores_[id] >= least_; }

    __device__ int sorted_count() const { return sorted_count_; }
    __device__ double sorted_mass(int rank) const { return mass_of(sorted_[rank]); }
    __device__ int sorted_id(int rank) const { return sorted_ids_[rank]; }

private:
    const float* scores_;
    const float* sorted_;
    const std::int32_t* sorted_ids_;
    int size_, sorted_count_;
    float largest_, least_;
};

// Over the block, for every thread; `sums` holds kSampleThreads numbers.
__device__ __forceinline__ double block_total(double mine, double* sums) {
    __syncthreads();
    sums[threadIdx.x] = mine;
    __syncthreads();
    for (int half = kSampleThreads / 2; half > 0; half /= 2) {
        if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

struct MassSearch {
    int index;
    double before;  // mass of all before it
    bool found;     // otherwise `index` is the last one that has mass, or 0
};

// The first of `count` whose mass, with all before it, is more than `target`, or with `reaches` at least that. The
// whole block calls.
template <typename Mass>
__device__ __forceinline__ MassSearch find_mass(int count, double target, double* sums, Mass mass,
                                                bool reaches = false) {
    LRENGINE_SHARED(MassSearch, result, 1);
    const auto passes = [&](double sum) { return reaches ? sum >= target : sum > target; };
    const int thread = static_cast<int>(threadIdx.x), run = (count + kSampleThreads - 1) / kSampleThreads;
    const int begin = min(thread * run, count), end = min(begin + run, count);
    double mine = 0.0;
    for (int i = begin; i < end; ++i) mine += mass(i);
    __syncthreads();
    sums[thread] = mine;
    __syncthreads();
    LRENGINE_SHARED(int, owner, 1);
    if (thread == 0) {
        // Sums become those of all runs before.
        double sum = 0.0;
        int first = -1, last = 0;
        for (int i = 0; i < kSampleThreads; ++i) {
            const double own = sums[i];
            sums[i] = sum;
            if (own > 0.0) last = i;
            sum += own;
            if (first < 0 && own > 0.0 && passes(sum)) first = i;
        }
        owner[0] = first >= 0 ? first : last;
        result[0] = {0, 0.0, first >= 0};
    }
    __syncthreads();
    if (thread == owner[0]) {
        double sum = sums[thread];
        MassSearch at{0, 0.0, result[0].found};
        for (int i = begin; i < end; ++i) {
            const double own = mass(i);
            if (own == 0.0) continue;
            at.index = i;
            at.before = sum;
            sum += own;
            if (at.found && passes(sum)) break;
        }
        result[0] = at;
    }
    __syncthreads();
    return result[0];
}

// Rises as scores fall; equal for equal scores.
__device__ __forceinline__ unsigned falling_order(float score) {
    const unsigned bits = __float_as_uint(score + 0.0f);  // -0 becomes +0
    return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}

// The mass, and the number, of tokens of scores up to one, from the largest on.
__device__ __forceinline__ double mass_up_to(const SampledRow& scores, unsigned order, double* sums) {
    double mine = 0.0;
    for (int i = static_cast<int>(threadIdx.x); i < scores.size(); i += kSampleThreads) {
        if (falling_order(scores.score(i)) <= order) mine += scores.mass(i);
    }
    return block_total(mine, sums);
}

// Tokens in falling order of scores, found without sorting them.
struct ScoreSearch {
    unsigned order;  // of the score that the sum passes at
    double before;   // mass of larger ones
};

template <typename Passes>
__device__ __forceinline__ ScoreSearch find_score(const SampledRow& scores, double* sums, Passes passes) {
    unsigned low = 0, high = ~0u;
    while (low < high) {
        const unsigned middle = low + (high - low) / 2;
        if (passes(mass_up_to(scores, middle, sums))) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return {low, low == 0 ? 0.0 : mass_up_to(scores, low - 1, sums)};
}

// Token number `tie`, by ids, of those with this score.
__device__ __forceinline__ int find_tie(const SampledRow& scores, unsigned order, double tie, double* sums) {
    const auto one = [&](int i) { return scores.stays(i) && falling_order(scores.score(i)) == order ? 1.0 : 0.0; };
    return find_mass(scores.size(), tie, sums, one).index;
}

__device__ __forceinline__ int draw_unsorted(const SampledRow& scores, double uniform, double wanted, double* sums) {
    const double all = mass_up_to(scores, ~0u, sums);
    ScoreSearch edge{~0u, all};
    double ties = 0.0, tie_mass = 0.0;
    if (all >= wanted) {
        edge = find_score(scores, sums, [&](double sum) { return sum >= wanted; });
        const int first = find_tie(scores, edge.order, 0.0, sums);
        tie_mass = scores.mass(first);
        ties = ceil((wanted - edge.before) / tie_mass);
    }
    // A number within a rounding error of the whole must still meet a token.
    const double kept = fmin(edge.before + fmax(ties, 1.0) * tie_mass, all);
    const double target = fmin(uniform * kept, kept * (1.0 - 0x1.0p-50));
    const ScoreSearch chosen = find_score(scores, sums, [&](double sum) { return sum > target; });
    const int first = find_tie(scores, chosen.order, 0.0, sums);
    return find_tie(scores, chosen.order, floor((target - chosen.before) / scores.mass(first)), sums);
}

// From the likeliest tokens that together have `wanted` mass.
__device__ __forceinline__ int draw_likely(const SampledRow& scores, double uniform, double wanted, double* sums) {
    const auto mass = [&](int rank) { return scores.sorted_mass(rank); };
    const MassSearch edge = find_mass(scores.sorted_count(), wanted, sums, mass, true);
    if (!edge.found && scores.sorted_count() < scores.size()) return draw_unsorted(scores, uniform, wanted, sums);
    const double kept = edge.before + mass(edge.index);
    return scores.sorted_id(find_mass(edge.index + 1, uniform * kept, sums, mass).index);
}

}  // namespace lrengine::cuda
