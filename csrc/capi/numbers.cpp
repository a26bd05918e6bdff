// Classify, score and encode: calls that answer with arrays, a few rows at a time so that they can be interrupted.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "capi/limits.h"
#include "capi/requests.h"
#include "capi/results.h"
#include "capi/structs.h"

namespace lrengine::capi {

namespace {

using Rows = std::vector<std::vector<float>>;

// Tokens between two looks at the limits: a fraction of a second for a base-sized model on two cores.
constexpr std::size_t kPieceTokens = 1024;

std::size_t end_of_piece(const std::vector<std::size_t>& tokens, std::size_t begin) {
    std::size_t end = begin, total = 0;
    while (end < tokens.size() && (end == begin || total + tokens[end] <= kPieceTokens)) total += tokens[end++];
    return end;
}

template <typename T>
std::vector<T> part(const std::vector<T>& all, std::size_t begin, std::size_t end) {
    return {all.begin() + static_cast<std::ptrdiff_t>(begin), all.begin() + static_cast<std::ptrdiff_t>(end)};
}

// compute(begin, end) for all rows, in order. Rows do not depend on each other, so the cuts change no answer. A refusal
// names a row by its number in the call: then the whole call is made at once, which checks every row before it computes
// any.
template <typename Compute>
Rows in_pieces(const std::vector<std::size_t>& tokens, const Limits& limits, Compute compute) {
    if (!limits.any()) return compute(0, tokens.size());
    Rows rows;
    for (std::size_t begin = 0; begin < tokens.size();) {
        limits.check();
        const std::size_t end = end_of_piece(tokens, begin);
        try {
            std::ranges::move(compute(begin, end), std::back_inserter(rows));
        } catch (const Error& error) {
            const bool refusal = error.code() == ErrorCode::kInvalidArgument || error.code() == ErrorCode::kUnsupported;
            if (refusal && begin > 0) compute(0, tokens.size());
            throw;
        }
        begin = end;
    }
    return rows;
}

std::string name_of(std::size_t input, const char* piece) { return "inputs[" + std::to_string(input) + "]." + piece; }

std::vector<Ids> sources_of(const OpenEngine& open, const lrengine_input* inputs, std::size_t count) {
    std::vector<Ids> sources;
    for (const lrengine_input& input : read_inputs(inputs, count)) {
        sources.push_back(source_ids(open, input.source, name_of(sources.size(), "source")));
    }
    return sources;
}

std::vector<std::size_t> lengths_of(const std::vector<Ids>& rows) {
    std::vector<std::size_t> lengths;
    for (const Ids& row : rows) lengths.push_back(row.size());
    return lengths;
}

// exp(log_probs) as probabilities that sum to 1.
std::vector<float> normalised(const std::vector<double>& log_probs) {
    const double largest = *std::ranges::max_element(log_probs);
    std::vector<double> shares;
    for (const double value : log_probs) shares.push_back(std::exp(value - largest));
    const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
    std::vector<float> probabilities;
    for (const double share : shares) probabilities.push_back(static_cast<float>(share / total));
    return probabilities;
}

Rows score_rows(const OpenEngine& open, const std::vector<Input>& inputs, const std::vector<Ids>& targets,
                const Limits& limits) {
    std::vector<std::size_t> tokens;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        tokens.push_back(inputs[i].source.size() + inputs[i].prompt.size() + targets[i].size());
    }
    return in_pieces(tokens, limits, [&](std::size_t begin, std::size_t end) {
        return open.engine->score(part(inputs, begin, end), part(targets, begin, end), limits.interruption());
    });
}

Rows classify_with_head(const OpenEngine& open, const lrengine_input* inputs, std::size_t count, const Limits& limits) {
    const std::vector<Ids> sources = sources_of(open, inputs, count);
    Rows rows = in_pieces(lengths_of(sources), limits, [&](std::size_t begin, std::size_t end) {
        return open.engine->classify(part(sources, begin, end), limits.interruption());
    });
    for (std::vector<float>& row : rows) row = normalised({row.begin(), row.end()});
    return rows;
}

Rows classify_by_likelihood(const OpenEngine& open, const lrengine_input* inputs, std::size_t count,
                            const lrengine_piece* labels, std::size_t label_count, const Limits& limits) {
    require_pointer(labels, "labels");
    std::vector<Ids> names;
    for (std::size_t i = 0; i < label_count; ++i) {
        names.push_back(closed_target_ids(open, labels[i], "labels[" + std::to_string(i) + "]"));
        if (std::find(names.begin(), names.end() - 1, names.back()) == names.end() - 1) continue;
        fail(ErrorCode::kInvalidArgument, "labels[" + std::to_string(i) + "]: found one that is there already");
    }
    std::vector<Input> typed;
    for (const lrengine_input& input : read_inputs(inputs, count)) {
        const std::size_t number = typed.size();
        typed.push_back({source_ids(open, input.source, name_of(number, "source")),
                         prompt_ids(open, input.prompt, name_of(number, "prompt")),
                         {}});
    }
    open.engine->check_labels(typed, names);
    std::vector<Input> pairs;
    std::vector<Ids> targets;
    for (const Input& row : typed) {
        pairs.insert(pairs.end(), label_count, row);
        targets.insert(targets.end(), names.begin(), names.end());
    }
    const Rows scores = score_rows(open, pairs, targets, limits);
    Rows rows;
    for (std::size_t first = 0; first < scores.size(); first += label_count) {
        std::vector<double> sums;
        for (std::size_t i = first; i < first + label_count; ++i) {
            sums.push_back(std::accumulate(scores[i].begin(), scores[i].end(), 0.0));
        }
        rows.push_back(normalised(sums));
    }
    return rows;
}

EncodeOutput output_of(lrengine_encode_output output) {
    switch (output) {
        case LRENGINE_ENCODE_LAST:
            return EncodeOutput::kLast;
        case LRENGINE_ENCODE_FUSED:
            return EncodeOutput::kFused;
        case LRENGINE_ENCODE_ALL:
            return EncodeOutput::kAll;
        case LRENGINE_ENCODE_WEIGHTS:
            return EncodeOutput::kWeights;
        default:
            fail(ErrorCode::kInvalidArgument, "output: found " + std::to_string(output) + ", expected 0 to 3");
    }
}

std::vector<std::int64_t> shape_of(const EncoderConfig& encoder, EncodeOutput output, std::int64_t length) {
    if (output == EncodeOutput::kAll) return {encoder.layers, length, encoder.width};
    if (output == EncodeOutput::kWeights) return {length, encoder.layers};
    return {length, encoder.width};
}

lrengine_arrays* vectors(Rows rows) {
    auto made = std::make_unique<lrengine_arrays>();
    for (std::vector<float>& row : rows) {
        const auto size = static_cast<std::int64_t>(row.size());
        made->arrays.push_back({std::move(row), {size}});
    }
    return made.release();
}

}  // namespace

}  // namespace lrengine::capi

using namespace lrengine;

extern "C" {

lrengine_status lrengine_classify(const lrengine_engine* engine, const lrengine_input* inputs, size_t count,
                                  const lrengine_piece* labels, size_t label_count, const lrengine_limits* limits,
                                  lrengine_arrays** probabilities) {
    return capi::guard([&] {
        capi::require_pointer(engine, "engine");
        capi::require_pointer(probabilities, "probabilities");
        const capi::OpenEngine& open = *engine->open;
        const capi::Limits ends(limits);
        if (open.labels() != nullptr) {
            if (labels != nullptr || label_count > 0) {
                fail(ErrorCode::kInvalidArgument, "labels: found some, expected none: the model has its own");
            }
            *probabilities = capi::vectors(capi::classify_with_head(open, inputs, count, ends));
            return;
        }
        if (label_count == 0) {
            fail(ErrorCode::kInvalidArgument, "labels: found none, expected some: the model has no labels of its own");
        }
        *probabilities = capi::vectors(capi::classify_by_likelihood(open, inputs, count, labels, label_count, ends));
    });
}

lrengine_status lrengine_score(const lrengine_engine* engine, const lrengine_input* inputs, size_t count,
                               const lrengine_limits* limits, lrengine_arrays** log_probs) {
    return capi::guard([&] {
        capi::require_pointer(engine, "engine");
        capi::require_pointer(log_probs, "log_probs");
        const capi::OpenEngine& open = *engine->open;
        const capi::Limits ends(limits);
        std::vector<Input> rows;
        std::vector<Ids> targets;
        for (const lrengine_input& input : capi::read_inputs(inputs, count)) {
            const std::size_t number = rows.size();
            rows.push_back({capi::source_ids(open, input.source, capi::name_of(number, "source")),
                            capi::prompt_ids(open, input.prompt, capi::name_of(number, "prompt")),
                            {}});
            targets.push_back(capi::closed_target_ids(open, input.target, capi::name_of(number, "target")));
        }
        *log_probs = capi::vectors(capi::score_rows(open, rows, targets, ends));
    });
}

lrengine_status lrengine_encode(const lrengine_engine* engine, const lrengine_input* inputs, size_t count,
                                lrengine_encode_output output, const lrengine_limits* limits,
                                lrengine_arrays** states) {
    return capi::guard([&] {
        capi::require_pointer(engine, "engine");
        capi::require_pointer(states, "states");
        const capi::OpenEngine& open = *engine->open;
        const EncodeOutput wanted = capi::output_of(output);
        const capi::Limits ends(limits);
        const std::vector<Ids> sources = capi::sources_of(open, inputs, count);
        capi::Rows rows = capi::in_pieces(capi::lengths_of(sources), ends, [&](std::size_t begin, std::size_t end) {
            return open.engine->encode(capi::part(sources, begin, end), wanted, ends.interruption());
        });
        auto made = std::make_unique<lrengine_arrays>();
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const auto length = static_cast<std::int64_t>(sources[i].size());
            made->arrays.push_back({std::move(rows[i]), capi::shape_of(open.engine->encoder(), wanted, length)});
        }
        *states = made.release();
    });
}

}  // extern "C"
