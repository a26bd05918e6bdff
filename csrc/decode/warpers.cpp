#include "decode/warpers.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lrengine {

namespace {

bool likelier(const Candidate& left, const Candidate& right) {
    return left.score != right.score ? left.score > right.score : left.token < right.token;
}

double relative_probability(float score, float largest) {
    return std::isinf(largest) ? 1.0 : std::exp(static_cast<double>(score) - largest);
}

float largest_score(std::span<const Candidate> candidates) {
    float largest = -std::numeric_limits<float>::infinity();
    for (const Candidate& candidate : candidates) largest = std::max(largest, candidate.score);
    return largest;
}

void keep_top_k(std::vector<Candidate>& kept, std::int64_t k) {
    if (k >= static_cast<std::int64_t>(kept.size())) return;
    std::nth_element(kept.begin(), kept.begin() + (k - 1), kept.end(), likelier);
    const float threshold = kept[static_cast<std::size_t>(k - 1)].score;
    std::erase_if(kept, [threshold](const Candidate& candidate) { return candidate.score < threshold; });
    std::sort(kept.begin(), kept.end(), [](const auto& left, const auto& right) { return left.token < right.token; });
}

void keep_top_p(std::vector<Candidate>& kept, double top_p, std::int64_t min_tokens) {
    const float largest = largest_score(kept);
    double total = 0.0;
    for (const Candidate& candidate : kept) total += relative_probability(candidate.score, largest);
    // A few likely tokens usually carry the mass: sort no further than needed.
    std::size_t sorted = 0, count = 0;
    double above = 0.0;
    while (count < kept.size() && (above < top_p * total || static_cast<std::int64_t>(count) < min_tokens)) {
        if (count == sorted) {
            const std::size_t next = std::min(kept.size(), std::max<std::size_t>(64, sorted * 4));
            std::partial_sort(kept.begin() + static_cast<std::ptrdiff_t>(sorted),
                              kept.begin() + static_cast<std::ptrdiff_t>(next), kept.end(), likelier);
            sorted = next;
        }
        above += relative_probability(kept[count++].score, largest);
    }
    kept.resize(count);
}

}  // namespace

void warp(std::span<const float> scores, const GenerationOptions& options, std::int64_t min_tokens,
          std::vector<Candidate>& kept) {
    kept.clear();
    const auto temperature = static_cast<float>(options.temperature);
    for (std::size_t id = 0; id < scores.size(); ++id) {
        kept.push_back({scores[id] / temperature, static_cast<std::int32_t>(id)});
    }
    if (options.top_k > 0) keep_top_k(kept, std::max(options.top_k, min_tokens));
    if (options.top_p < 1.0) keep_top_p(kept, options.top_p, min_tokens);
}

std::int32_t draw(std::span<const Candidate> candidates, double uniform) {
    const float largest = largest_score(candidates);
    double total = 0.0;
    for (const Candidate& candidate : candidates) total += relative_probability(candidate.score, largest);
    double remaining = uniform * total;
    std::int32_t chosen = candidates.front().token;
    for (const Candidate& candidate : candidates) {
        const double probability = relative_probability(candidate.score, largest);
        if (probability == 0.0) continue;
        chosen = candidate.token;
        remaining -= probability;
        if (remaining < 0.0) break;
    }
    return chosen;
}

void keep_largest(std::vector<Candidate>& candidates, std::int64_t k) {
    const auto count = std::min<std::size_t>(candidates.size(), static_cast<std::size_t>(k));
    std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count), candidates.end(),
                      likelier);
    candidates.resize(count);
}

}  // namespace lrengine
