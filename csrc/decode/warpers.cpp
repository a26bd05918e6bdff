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
    if (std::isinf(largest)) return score == largest ? 1.0 : 0.0;
    return std::exp(static_cast<double>(score) - largest);
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

// Appends the scores divided by the temperature. Where a quotient of the row overflows, the scores are taken from their
// maximum, and what is still too small stays finite: never as impossible as a banned token.
void divide(std::span<const float> scores, float temperature, std::vector<Candidate>& kept) {
    constexpr float kLargest = std::numeric_limits<float>::max();
    float largest = -kLargest, farthest = 0.0f;
    for (const float score : scores) {
        if (std::isinf(score)) continue;
        largest = std::max(largest, score);
        farthest = std::max(farthest, std::abs(score));
    }
    const float shift = std::isinf(farthest / temperature) ? largest : 0.0f;
    for (std::size_t id = 0; id < scores.size(); ++id) {
        const float quotient =
            std::isinf(scores[id]) ? scores[id] : std::clamp((scores[id] - shift) / temperature, -kLargest, kLargest);
        kept.push_back({quotient, static_cast<std::int32_t>(id)});
    }
}

}  // namespace

void warp(std::span<const float> scores, const GenerationOptions& options, std::int64_t min_tokens,
          std::vector<Candidate>& kept) {
    kept.clear();
    divide(scores, static_cast<float>(options.temperature), kept);
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
