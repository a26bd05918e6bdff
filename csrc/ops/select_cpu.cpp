#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"

namespace lrengine {

namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

// Logits are gone through by chunks that fit in the first-level cache, whatever the number of threads: a log-sum-exp is
// put together from chunks in their order.
constexpr std::int64_t kChunk = 4096;

std::int64_t chunks_of(std::int64_t size) { return (size + kChunk - 1) / kChunk; }

struct Candidate {
    float value;
    std::int32_t id;
};

bool better(const Candidate& a, const Candidate& b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }

// The best k of a growing stretch of a row, as a heap with the worst on top.
class BestK {
public:
    BestK(Candidate* memory, std::int64_t k) : memory_(memory), k_(k) {}

    // Elements [begin, end) of the row, which come after all that were shown before: of equals the older one stays.
    void show(const CpuKernels& kernels, const float* row, std::int64_t begin, std::int64_t end) {
        for (; begin < end && size_ < k_; ++begin) push({std::max(kNegativeInfinity, row[begin]), begin});
        while (begin < end) {
            begin = kernels.find_greater(row, begin, end, memory_[0].value);
            if (begin == end) return;
            std::pop_heap(memory_, memory_ + size_--, better);
            push({row[begin], begin});
            ++begin;
        }
    }

    std::int64_t size() const { return size_; }

private:
    struct Entry {
        float value;
        std::int64_t id;
    };

    void push(Entry entry) {
        memory_[size_++] = {entry.value, static_cast<std::int32_t>(entry.id)};
        std::push_heap(memory_, memory_ + size_, better);
    }

    Candidate* memory_;
    std::int64_t k_;
    std::int64_t size_ = 0;
};

struct PartialSum {
    float largest;
    float sum;  // of exp(x - largest)
};

float log_sum_exp(const PartialSum* parts, std::int64_t count) {
    float largest = kNegativeInfinity;
    for (std::int64_t c = 0; c < count; ++c) {
        if (std::isnan(parts[c].sum)) return parts[c].sum;
        largest = std::max(largest, parts[c].largest);
    }
    if (std::isinf(largest)) return largest;
    double sum = 0.0;
    for (std::int64_t c = 0; c < count; ++c) {
        sum += static_cast<double>(parts[c].sum) * std::exp(static_cast<double>(parts[c].largest) - largest);
    }
    return static_cast<float>(largest + std::log(sum));
}

PartialSum sum_chunk(const CpuKernels& kernels, const float* row, std::int64_t chunk, std::int64_t size) {
    PartialSum part;
    const std::int64_t first = chunk * kChunk;
    kernels.exp_sum(row + first, std::min(kChunk, size - first), &part.largest, &part.sum);
    return part;
}

// Scratch of a top-k job over rows that are cut into segments of whole chunks.
struct TopKJob {
    const TopKArgs& args;
    const CpuKernels& kernels;
    std::int64_t chunks, segments;
    Candidate* candidates;  // [M, segments, k]
    std::int64_t* found;    // [M, segments]
    PartialSum* parts;      // [M, chunks]

    void search(std::int64_t row, std::int64_t segment) const {
        const std::int64_t size = args.logits.cols, index = row * segments + segment;
        const float* logits = args.logits.row<float>(row);
        BestK best(candidates + index * args.k, args.k);
        for (std::int64_t c = chunks * segment / segments; c < chunks * (segment + 1) / segments; ++c) {
            if (args.log_sum_exp != nullptr) parts[row * chunks + c] = sum_chunk(kernels, logits, c, size);
            best.show(kernels, logits, c * kChunk, std::min((c + 1) * kChunk, size));
        }
        found[index] = best.size();
    }

    void merge(std::int64_t row) const {
        Candidate* all = candidates + row * segments * args.k;
        Candidate* end = all;
        for (std::int64_t s = 0; s < segments; ++s) {
            const Candidate* some = all + s * args.k;
            end = std::copy(some, some + found[row * segments + s], end);
        }
        std::sort(all, end, better);
        for (std::int64_t i = 0; i < args.k; ++i) {
            args.values.row<float>(row)[i] = all[i].value;
            args.ids[row * args.k + i] = all[i].id;
        }
        if (args.log_sum_exp != nullptr) args.log_sum_exp[row] = log_sum_exp(parts + row * chunks, chunks);
    }
};

}  // namespace

void CpuBackend::top_k(const TopKArgs& args) {
    const std::int64_t rows = args.logits.rows, size = args.logits.cols;
    expect(has_shape(args.logits, rows, size), "top_k: logits are not [M, V]");
    expect(args.k >= 1 && args.k <= size, "top_k: k is not in 1 .. V");
    expect(has_shape(args.values, rows, args.k), "top_k: values are not [M, k]");
    if (rows == 0) return;
    const std::int64_t chunks = chunks_of(size), threads = pool_.threads();
    // As few segments as give every thread the same number of them.
    const std::int64_t segments = std::min(threads / std::gcd(rows, threads), chunks);

    const std::int64_t items = rows * segments;
    constexpr auto kCandidate = static_cast<std::int64_t>(sizeof(Candidate));
    auto* memory = job_scratch().get<char>(items * (args.k * kCandidate + 8) + rows * chunks * 8);
    TopKJob job{args, kernels_, chunks, segments, nullptr, nullptr, nullptr};
    job.found = reinterpret_cast<std::int64_t*>(memory);
    job.candidates = reinterpret_cast<Candidate*>(job.found + items);
    job.parts = reinterpret_cast<PartialSum*>(job.candidates + items * args.k);
    parallel(items, 2 * size / segments, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) job.search(i / segments, i % segments);
    });
    parallel(rows, 16 * segments * args.k, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) job.merge(row);
    });
}

void CpuBackend::token_log_prob(const TokenLogProbArgs& args) {
    const std::int64_t rows = args.logits.rows, size = args.logits.cols;
    expect(has_shape(args.logits, rows, size), "token_log_prob: logits are not [M, V]");
    const std::int64_t chunks = chunks_of(size);
    auto* parts = job_scratch().get<PartialSum>(rows * chunks);
    parallel(rows * chunks, 2 * kChunk, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            parts[i] = sum_chunk(kernels_, args.logits.row<float>(i / chunks), i % chunks, size);
        }
    });
    for (std::int64_t m = 0; m < rows; ++m) {
        expect(args.ids[m] >= 0 && args.ids[m] < size, "token_log_prob: id outside the row");
        const float logit = args.logits.row<float>(m)[args.ids[m]];
        const float known = std::isnan(logit) ? kNegativeInfinity : logit;
        args.log_probs[m] = known - log_sum_exp(parts + m * chunks, chunks);
    }
}

}  // namespace lrengine
