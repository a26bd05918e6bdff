#include <algorithm>
#include <random>
#include <utility>

#include "runtime/engine.h"

namespace lrengine {

Session::Session(std::shared_ptr<const Engine> engine, std::vector<Input> inputs, GenerationOptions options,
                 StopHook stop)
    : engine_(std::move(engine)), inputs_(std::move(inputs)) {
    if (inputs_.empty()) return;
    std::vector<GenerationSource> sources;
    std::vector<std::int64_t> limits;
    forced_.reserve(inputs_.size());
    const Generator& generator = engine_->generator();
    for (const Input& input : inputs_) {
        forced_.push_back(engine_->forced_tokens(input));
        sources.push_back({input.source, input.prompt, forced_.back()});
        const std::int64_t room = generator.max_length() - engine_->prefill_length(input);
        limits.push_back(generator.max_length() == 0 ? options.max_new_tokens : std::min(options.max_new_tokens, room));
    }
    options.max_new_tokens = *std::max_element(limits.begin(), limits.end());
    if (options.do_sample && !options.seed) {
        std::random_device entropy;
        options.seed = (std::uint64_t{entropy()} << 32) | entropy();
    }
    std::vector<std::int32_t> end_tokens(engine_->config().tokens.eos.begin(), engine_->config().tokens.eos.end());
    search_ = start_search(generator, *engine_->backend_,
                           {sources, limits, std::move(options), std::move(end_tokens), std::move(stop)});
}

void Session::step() {
    if (search_) search_->step();
}

void Session::cancel() {
    if (search_) search_->cancel();
}

std::vector<std::vector<Hypothesis>> Session::results() const {
    return search_ ? search_->results() : std::vector<std::vector<Hypothesis>>{};
}

}  // namespace lrengine
