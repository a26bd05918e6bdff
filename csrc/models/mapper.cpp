#include "models/mapper.h"

#include <vector>

#include "core/error.h"
#include "models/latent_mapper.h"

namespace lrengine {

namespace {

// One Linear, or two with an activation between, token by token.
class TokenMapper final : public Mapper {
public:
    TokenMapper(const MapperConfig& config, std::int64_t width, std::int64_t llm_width, WeightLoader& loader)
        : activation_(config.activation) {
        const std::int64_t inner = config.kind == MapperKind::kMlp ? config.hidden : llm_width;
        layers_.push_back(load_dense(loader, "mapper.layers.0", inner, width, Bias::kPresent));
        if (config.kind == MapperKind::kMlp) {
            layers_.push_back(load_dense(loader, "mapper.layers.1", llm_width, inner, Bias::kPresent));
        }
    }

    std::int64_t output_length(std::int64_t length) const override { return length; }

    void run(const Workspace& work, const FusedTokens& fused, const Packing&, const Matrix& out) const override {
        const Matrix& x = fused.tokens;
        if (x.rows == 0) return;
        if (layers_.size() == 1) return fused.multiply(work.backend, product(x, layers_[0], out));
        const ArenaScope scope(work.arena);
        const Matrix hidden = work.matrix(x.rows, layers_[0].outputs());
        fused.multiply(work.backend, product(x, layers_[0], hidden, {}, activation_));
        work.backend.linear(product(hidden, layers_[1], out));
    }

private:
    Activation activation_;
    std::vector<Dense> layers_;
};

}  // namespace

std::unique_ptr<Mapper> load_mapper(const MapperConfig& config, std::int64_t width, std::int64_t llm_width,
                                    WeightLoader& loader) {
    switch (config.kind) {
        case MapperKind::kLinear:
        case MapperKind::kMlp:
            return std::make_unique<TokenMapper>(config, width, llm_width, loader);
        case MapperKind::kLatent:
            return std::make_unique<LatentMapper>(config, width, llm_width, loader);
    }
    fail(ErrorCode::kInternal, "unknown mapper kind");
}

}  // namespace lrengine
