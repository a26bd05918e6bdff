#include "decode/search.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/error.h"
#include "decode/beam_search.h"
#include "decode/random.h"
#include "decode/token_search.h"

namespace lrengine {

namespace {

// Thrown between layers after cancel(), for step() alone.
struct Cancelled {};

}  // namespace

double Hypothesis::score() const { return std::accumulate(token_log_probs.begin(), token_log_probs.end(), 0.0); }

void Search::step() {
    if (done()) return;
    try {
        advance();
    } catch (const Cancelled&) {
        // done() says it.
    } catch (const Error& error) {
        // A device refuses before any row has taken a token: the step can be asked for again.
        const bool whole = error.code() == ErrorCode::kOutOfMemory || error.code() == ErrorCode::kDevice;
        if (!whole) cancelled_ = true;
        throw;
    } catch (...) {
        cancelled_ = true;
        throw;
    }
}

void Search::prefill(DecodeState& state) const {
    const Interruption between = [this] {
        if (cancelled_) throw Cancelled();
        if (interruption_) interruption_();
    };
    if (ready_) ready_(between);
    state.prefill(between);
}

std::unique_ptr<Search> start_search(const Generator& generator, const SearchRequest& request) {
    if (request.options.num_beams > 1) return std::make_unique<BeamSearch>(generator, request);
    return std::make_unique<TokenSearch>(generator, request);
}

std::vector<std::int64_t> token_limits(const Generator& generator, const DecodeState& state, std::size_t sources,
                                       std::int64_t max_new_tokens) {
    std::vector<std::int64_t> limits(sources, max_new_tokens);
    if (generator.max_length() == 0) return limits;
    for (std::size_t source = 0; source < sources; ++source) {
        const std::int64_t room = generator.max_length() - state.prefill_length(static_cast<std::int64_t>(source));
        limits[source] = std::min(limits[source], room + 1);  // the last token is never fed
    }
    return limits;
}

std::vector<std::uint64_t> source_streams(std::span<const GenerationSource> sources) {
    std::vector<std::uint64_t> streams;
    std::map<std::uint64_t, std::int32_t> seen;
    for (const GenerationSource& source : sources) {
        std::uint64_t stream = mix_hash(mix_hash(mix_hash(0, source.source), source.prompt), source.forced);
        const std::int32_t number = seen[stream]++;
        streams.push_back(mix_hash(stream, std::span(&number, 1)));
    }
    return streams;
}

}  // namespace lrengine
