#include "bindings/outside_model.h"

#include <pybind11/stl.h>

#include <string>
#include <utility>

#include "core/error.h"
#include "decode/random.h"
#include "ops/backend.h"

namespace py = pybind11;

namespace lrengine::bindings {

namespace {

using LogitsArray = py::array_t<float, py::array::c_style>;

py::array_t<std::int32_t> copied(std::span<const std::int32_t> values) {
    return py::array_t<std::int32_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

// An object that may be let go of by a thread without the GIL.
std::shared_ptr<py::object> held(py::object object) {
    return {new py::object(std::move(object)), [](py::object* last) {
                const py::gil_scoped_acquire gil;
                delete last;
            }};
}

// Decoding looks at the logits on the host, with one thread: the runtime's own are as many as the cores, and spin.
class OutsideState final : public DecodeState {
public:
    OutsideState(py::object state, std::int64_t vocab)
        : state_(held(std::move(state))),
          logits_(held(py::none())),
          backend_(make_cpu_backend(1)),
          vocab_(vocab),
          capacity_(state_->attr("capacity").cast<std::int64_t>()),
          lengths_(state_->attr("prefill_lengths").cast<std::vector<std::int64_t>>()) {}

    // The runtime outside is not interrupted.
    void prefill(const Interruption&) override {
        const py::gil_scoped_acquire gil;
        take(state_->attr("prefill")(), std::ssize(lengths_));
    }

    std::int64_t prefill_length(std::int64_t source) const override {
        return lengths_.at(static_cast<std::size_t>(source));
    }

    void step(const StepInput& input) override {
        const py::gil_scoped_acquire gil;
        py::object history = py::none();
        const auto rows = std::ssize(input.tokens);
        if (!input.history.empty()) history = copied(input.history).reshape({rows, capacity_});
        take(state_->attr("step")(copied(input.tokens), copied(input.slots), copied(input.sources),
                                  copied(input.lengths), history),
             rows);
    }

    std::int64_t capacity() const override { return capacity_; }
    void select(const TopTokens& out) override { selection_ = out; }
    Matrix logits() override { return matrix_; }
    Backend& backend() override { return *backend_; }

private:
    // Keeps the array: its memory is what logits() shows. The GIL is held.
    void take(const py::object& computed, std::int64_t rows) {
        const bool fits = LogitsArray::check_(computed) && py::array(computed).ndim() == 2 &&
                          py::array(computed).shape(0) == rows && py::array(computed).shape(1) == vocab_;
        if (!fits) fail(ErrorCode::kInternal, "logits are not a C-contiguous float32 array [rows, vocabulary]");
        *logits_ = computed;
        // Nothing writes through the matrix.
        void* data = const_cast<void*>(py::array(computed).data());
        matrix_ = {data, DType::kFloat32, rows, vocab_, vocab_};
        const py::gil_scoped_release release;
        Matrix values = selection_.values;
        values.rows = rows;
        backend_->top_k({.logits = matrix_,
                         .k = selection_.k,
                         .values = values,
                         .ids = selection_.ids,
                         .log_sum_exp = selection_.log_sum_exp});
    }

    std::shared_ptr<py::object> state_, logits_;
    std::shared_ptr<Backend> backend_;
    std::int64_t vocab_, capacity_;
    std::vector<std::int64_t> lengths_;
    Matrix matrix_;
    TopTokens selection_;
};

class OutsideGenerator final : public Generator {
public:
    explicit OutsideGenerator(OutsideModel model)
        : vocab_(model.vocab_size), max_length_(model.max_length), begin_(held(std::move(model.begin))) {}

    std::int64_t vocab_size() const override { return vocab_; }
    std::int64_t max_length() const override { return max_length_; }

    std::unique_ptr<DecodeState> begin(std::span<const GenerationSource>, std::int64_t rows_per_source,
                                       std::int64_t max_new_tokens) const override {
        const py::gil_scoped_acquire gil;
        return std::make_unique<OutsideState>((*begin_)(rows_per_source, max_new_tokens), vocab_);
    }

    void check(std::span<const GenerationSource>, std::span<const std::span<const std::int32_t>>) const override {
        fail(ErrorCode::kInternal, "a model that runs elsewhere checks there");
    }
    std::vector<std::vector<float>> score(std::span<const GenerationSource>,
                                          std::span<const std::span<const std::int32_t>>,
                                          const Interruption&) const override {
        fail(ErrorCode::kInternal, "a model that runs elsewhere scores there");
    }

private:
    std::int64_t vocab_, max_length_;
    std::shared_ptr<py::object> begin_;
};

}  // namespace

std::unique_ptr<Session> start_outside(OutsideModel model, const std::vector<IdArray>& sources,
                                       const std::vector<IdArray>& prompts, const std::vector<IdArray>& forced,
                                       const py::dict& options, const py::object& stop) {
    const auto inputs = inputs_from_arrays(sources, prompts, forced);
    SearchRequest request{.sources = {},
                          .options = options_from_dict(options),
                          .end_tokens = std::move(model.end_tokens),
                          .stop = stop_hook(stop)};
    validate(request.options, model.vocab_size);
    if (inputs.empty()) return std::make_unique<Session>(nullptr, nullptr);
    if (request.options.do_sample && !request.options.seed) request.options.seed = random_seed();
    std::vector<GenerationSource> views;
    for (const Input& input : inputs) views.push_back({input.source, input.prompt, input.prefix});
    request.sources = views;
    const auto generator = std::make_shared<OutsideGenerator>(std::move(model));
    const py::gil_scoped_release release;
    auto search = start_search(*generator, request);
    return std::make_unique<Session>(generator, std::move(search));
}

}  // namespace lrengine::bindings
