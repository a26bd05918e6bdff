#include "decode/search.h"

#include <map>
#include <numeric>

#include "decode/beam_search.h"
#include "decode/random.h"
#include "decode/token_search.h"

namespace lrengine {

double Hypothesis::score() const { return std::accumulate(token_log_probs.begin(), token_log_probs.end(), 0.0); }

void Search::step() {
    if (!done()) advance();
}

std::unique_ptr<Search> start_search(const Generator& generator, Backend& backend, const SearchRequest& request) {
    if (request.options.num_beams > 1) return std::make_unique<BeamSearch>(generator, backend, request);
    return std::make_unique<TokenSearch>(generator, backend, request);
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
