#include "ops/backend.h"

#include <array>
#include <vector>

#include "core/error.h"

namespace lrengine {

void Backend::normed_linear(const NormedLinearArgs& args) {
    if (args.norm) norm(*args.norm);
    linear(args.products);
}

void Backend::project_heads(const ProjectHeadsArgs& args) {
    std::vector<LinearArgs> all;
    if (!args.beside.empty()) {
        all.assign(args.products.begin(), args.products.end());
        all.insert(all.end(), args.beside.begin(), args.beside.end());
    }
    normed_linear({.norm = args.norm, .products = all.empty() ? args.products : all});
    if (args.query_norm) norm(*args.query_norm);
    if (args.key_norm) norm(*args.key_norm);
    if (args.query_rope) rope(*args.query_rope);
    if (args.key_rope) rope(*args.key_rope);
    if (!args.key_cache) return;
    scatter_rows({.source = args.products[1].out, .destination = args.key_cache, .rows = args.cache_rows});
    scatter_rows({.source = args.products[2].out, .destination = args.value_cache, .rows = args.cache_rows});
}

void Backend::gated_linear(const GatedLinearArgs& args) {
    const std::array products{args.gate, args.up};
    normed_linear({.norm = args.norm, .products = products});
    gated({.gate = args.gate.out, .up = args.up.out, .out = args.out, .activation = args.activation});
}

void Backend::mixed_linear(const MixedLinearArgs& args) {
    layer_mix(args.mix);
    linear(args.product);
}

void Backend::attend_project(const AttendProjectArgs& args) {
    cached_attention(args.attention);
    linear(args.out);
}

void Backend::feed_forward(const FeedForwardArgs& args) {
    if (args.gate.weight) {
        gated_linear(
            {.norm = args.norm, .gate = args.gate, .up = args.in, .activation = args.activation, .out = args.out.x});
    } else {
        LinearArgs in = args.in;
        in.activation = args.activation;
        in.out = args.out.x;
        normed_linear({.norm = args.norm, .products = std::span(&in, 1)});
    }
    linear(args.out);
}

void Backend::project_top_k(const ProjectTopKArgs&) {
    fail(ErrorCode::kInternal, device() + ": project_top_k is not there; linear() and top_k() are");
}

namespace {

[[noreturn]] void stays_behind(const Backend& backend) {
    fail(ErrorCode::kInternal, backend.device() + ": steps do not run ahead of the host");
}

}  // namespace

void Backend::process_scores(const ProcessScoresArgs&) { stays_behind(*this); }
void Backend::sample_tokens(const SampleTokensArgs&) { stays_behind(*this); }
void Backend::take_tokens(const TakeTokensArgs&) { stays_behind(*this); }
void Backend::take_beams(const TakeBeamsArgs&) { stays_behind(*this); }
void* Backend::mailbox(std::size_t) { stays_behind(*this); }
void Backend::mark(std::int64_t) { stays_behind(*this); }
void Backend::await(std::int64_t) { stays_behind(*this); }

void Backend::repeat(std::span<const std::uint64_t>, const std::function<void()>& ops) { ops(); }

std::shared_ptr<Backend> session_backend(const std::shared_ptr<Backend>& backend) {
    std::shared_ptr<Backend> fork = backend->fork();
    if (!fork) return backend;
    fork->memory_use_ = backend->memory_use_;
    return fork;
}

}  // namespace lrengine
