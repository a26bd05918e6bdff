// One element of attention in float64.
#pragma once

#include <functional>

#include "op_testing.h"

namespace op_testing {

struct Heads {
    std::int64_t heads, kv_heads, d;
};

// softmax(scores) v for one query and head; key(j) and value(j) give row numbers.
struct Reference {
    const TestMatrix &q, &k, &v;
    Heads heads;
    double scale;

    double at(std::int64_t row, std::int64_t column, std::int64_t keys,
              const std::function<std::int64_t(std::int64_t)>& key,
              const std::function<double(std::int64_t, std::int64_t)>& bias) const {
        const std::int64_t head = column / heads.d, kv = head / (heads.heads / heads.kv_heads) * heads.d;
        std::vector<double> scores;
        double largest = -1e300, sum = 0, out = 0;
        for (std::int64_t j = 0; j < keys; ++j) {
            double score = 0;
            for (std::int64_t i = 0; i < heads.d; ++i) {
                score += static_cast<double>(q.at(row, head * heads.d + i)) * k.at(key(j), kv + i);
            }
            scores.push_back(score * scale + bias(head, j));
            largest = std::max(largest, scores.back());
        }
        for (std::int64_t j = 0; j < keys; ++j) {
            const double weight = std::exp(scores[static_cast<std::size_t>(j)] - largest);
            sum += weight;
            out += weight * v.at(key(j), kv + column % heads.d);
        }
        return keys > 0 ? out / sum : 0.0;
    }
};

}  // namespace op_testing
