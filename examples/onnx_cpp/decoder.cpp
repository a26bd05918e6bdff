#include "decoder.h"

#include <algorithm>
#include <stdexcept>

namespace {

ONNXTensorElementDataType element(const std::string& type) {
    if (type == "float32") return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    if (type == "float16") return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    if (type == "bfloat16") return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    throw std::runtime_error("a cache of " + type + " is not known to this program");
}

}  // namespace

// Slot 0 is no token: zeros that empty rows name. Every run takes the slots behind those of the runs before.
Decoder::Decoder(const Manifest& manifest, const std::vector<std::int64_t>& source, std::int64_t fed,
                 std::int64_t new_tokens)
    : manifest_(manifest),
      session_(manifest.path(manifest.step_graph())),
      rows_(manifest.size(manifest.step_graph(), "input_ids", 0, 1)),
      past_(manifest.size(manifest.step_graph(), "cache_rows", 1, 0)) {
    read_source(source);
    room_ = past_ > 0 ? past_ : mapped_ + fed + new_tokens;
    if (manifest.max_target > 0) room_ = std::min(room_, manifest.max_target);
    if (mapped_ + fed > room_) throw std::runtime_error("the target is too long");
    bound_ = manifest.size(manifest.step_graph(), "past_key_0", 0, 1 + rows_ * room_);
    slots_ = 1 + bound_;
    slot_bytes_ = manifest.kv_heads * manifest.head_dim * (manifest.cache_type == "float32" ? 4 : 2);
    for (std::int64_t layer = 0; layer < manifest.layers; ++layer) {
        keys_.emplace_back(static_cast<std::size_t>(slots_ * slot_bytes_));
        values_.emplace_back(static_cast<std::size_t>(slots_ * slot_bytes_));
    }
    logits_.resize(static_cast<std::size_t>(rows_ * manifest.vocab_size));
}

void Decoder::read_source(const std::vector<std::int64_t>& source) {
    const std::string graph = manifest_.fused ? "prefix" : "encoder";
    const auto length = static_cast<std::int64_t>(source.size());
    const std::int64_t batch = manifest_.size(graph, "input_ids", 0, 1);
    const std::int64_t width = manifest_.size(graph, "input_ids", 1, std::max<std::int64_t>(length, 1));
    if (length > width || (manifest_.max_source > 0 && length > manifest_.max_source)) {
        throw std::runtime_error("the source has " + std::to_string(length) + " tokens, the export takes fewer");
    }
    for (const std::int64_t id : source) {
        if (id < 0 || id >= manifest_.source_vocab_size) throw std::runtime_error("an id is not in the vocabulary");
    }
    std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * width), manifest_.source_pad);
    mask_.assign(ids.size(), 0);
    std::copy(source.begin(), source.end(), ids.begin());
    std::fill_n(mask_.begin(), source.size(), 1);
    ort::Tensors inputs;
    inputs.add("input_ids", ort::tensor(ids, {batch, width}));
    inputs.add("attention_mask", ort::tensor(mask_, {batch, width}));
    const ort::Session session(manifest_.path(graph));
    if (manifest_.fused) {
        ort::Tensors outputs;
        for (const char* name : {"prefix", "lengths"}) outputs.add(name, nullptr);
        session.run(inputs, outputs);
        width_ = ort::shape_of(outputs.values[0]).at(2);
        mapped_ = *ort::data_of<std::int64_t>(outputs.values[1]);
        const auto* prefix = ort::data_of<float>(outputs.values[0]);
        prefix_.assign(prefix, prefix + mapped_ * width_);
        return;
    }
    for (std::int64_t layer = 0; layer < manifest_.layers; ++layer) {
        source_.add("cross_key_" + std::to_string(layer), nullptr);
        source_.add("cross_value_" + std::to_string(layer), nullptr);
    }
    session.run(inputs, source_);
    source_.add("attention_mask", ort::tensor(mask_, {batch, width}));
}

// A view of the cache from slot `first` on: [sizes, heads, head_dim].
ort::Value Decoder::slots(std::vector<char>& buffer, std::int64_t first, const std::vector<std::int64_t>& sizes) {
    std::vector<std::int64_t> shape = sizes;
    std::int64_t count = 1;
    for (const std::int64_t size : sizes) count *= size;
    shape.insert(shape.end(), {manifest_.kv_heads, manifest_.head_dim});
    return ort::tensor(buffer.data() + first * slot_bytes_, static_cast<std::size_t>(count * slot_bytes_), shape,
                       element(manifest_.cache_type));
}

// past_* of all layers, and new_* [sizes, heads, head_dim] straight behind the slots in use: the next run finds them.
void Decoder::add_cache(ort::Tensors& inputs, ort::Tensors& outputs, const std::vector<std::int64_t>& sizes) {
    for (std::int64_t layer = 0; layer < manifest_.layers; ++layer) {
        auto &keys = keys_[static_cast<std::size_t>(layer)], &values = values_[static_cast<std::size_t>(layer)];
        const std::string number = std::to_string(layer);
        inputs.add("past_key_" + number, slots(keys, 0, {bound_}));
        inputs.add("past_value_" + number, slots(values, 0, {bound_}));
        outputs.add("new_key_" + number, slots(keys, next_, sizes));
        outputs.add("new_value_" + number, slots(values, next_, sizes));
    }
}

const float* Decoder::read_mapped() {
    if (!manifest_.fused) return nullptr;
    // A static export has a graph of its own for the first run, of as many rows as sources.
    const bool fixed = past_ > 0;
    const std::string graph = fixed ? "llm_prefill" : manifest_.step_graph();
    const std::int64_t rows = manifest_.size(graph, "input_ids", 0, 1);
    const std::int64_t length = manifest_.size(graph, "input_ids", 1, mapped_);
    std::vector<std::int64_t> ids(static_cast<std::size_t>(rows * length), manifest_.pad);
    std::vector<std::int64_t> zeros(static_cast<std::size_t>(rows), 0), wanted(static_cast<std::size_t>(rows));
    std::vector<float> embeds(ids.size() * static_cast<std::size_t>(width_), 0.0f);
    std::fill_n(ids.begin(), mapped_, -1);  // not a token: the vector of `embeds` at its place
    std::copy(prefix_.begin(), prefix_.end(), embeds.begin());
    for (std::size_t row = 0; row < wanted.size(); ++row) wanted[row] = static_cast<std::int64_t>(row) * length;
    wanted[0] = mapped_ - 1;
    std::vector<float> logits(static_cast<std::size_t>(rows * manifest_.vocab_size));

    ort::Tensors inputs, outputs;
    inputs.add("input_ids", ort::tensor(ids, {rows, length}));
    inputs.add("embeds", ort::tensor(embeds, {rows, length, width_}));
    inputs.add("position", ort::tensor(zeros, {rows}));
    inputs.add("cache_rows", ort::tensor(zeros, {rows, 1}));
    inputs.add("logit_rows", ort::tensor(wanted, {rows}));
    outputs.add("logits", ort::tensor(logits, {rows, manifest_.vocab_size}));
    add_cache(inputs, outputs, {rows, length});
    if (fixed) {
        ort::Session(manifest_.path(graph)).run(inputs, outputs);
    } else {
        session_.run(inputs, outputs);
    }
    for (std::int64_t t = 0; t < mapped_; ++t) row_.push_back(next_ + t);
    next_ += rows * length;
    std::copy_n(logits.begin(), manifest_.vocab_size, logits_.begin());
    return logits_.data();
}

const float* Decoder::step(std::int64_t token) {
    if (token < 0 || token >= manifest_.vocab_size) {
        throw std::runtime_error("an id is not in the target's vocabulary");
    }
    if (room() <= 0) throw std::runtime_error("the cache is full");
    const auto used = static_cast<std::int64_t>(row_.size());
    const std::int64_t past = past_ > 0 ? past_ : std::max<std::int64_t>(used, 1);
    const auto rows = static_cast<std::size_t>(rows_);
    std::vector<std::int64_t> ids(rows, manifest_.pad), position(rows, 0), wanted(rows);
    std::vector<std::int64_t> cache_rows(rows * static_cast<std::size_t>(past), 0);
    ids[0] = token;
    position[0] = used;
    std::copy(row_.begin(), row_.end(), cache_rows.begin());
    for (std::size_t row = 0; row < rows; ++row) wanted[row] = static_cast<std::int64_t>(row);
    std::vector<float> embeds(rows * static_cast<std::size_t>(width_), 0.0f);

    ort::Tensors inputs, outputs;
    inputs.add("input_ids", ort::tensor(ids, {rows_, 1}));
    inputs.add("position", ort::tensor(position, {rows_}));
    inputs.add("cache_rows", ort::tensor(cache_rows, {rows_, past}));
    if (manifest_.fused) {
        inputs.add("embeds", ort::tensor(embeds, {rows_, 1, width_}));
        inputs.add("logit_rows", ort::tensor(wanted, {rows_}));
    }
    const std::vector<std::int64_t> one =
        manifest_.fused ? std::vector<std::int64_t>{rows_, 1} : std::vector<std::int64_t>{rows_};
    outputs.add("logits", ort::tensor(logits_, {rows_, manifest_.vocab_size}));
    add_cache(inputs, outputs, one);
    // The source's tensors are lent to this run.
    const std::size_t own = inputs.names.size();
    for (std::size_t i = 0; i < source_.names.size(); ++i) {
        inputs.add(source_.names[i], std::move(source_.values[i]));
    }
    const auto give_back = [&] {
        for (std::size_t i = 0; i < source_.names.size(); ++i) source_.values[i] = std::move(inputs.values[own + i]);
    };
    try {
        session_.run(inputs, outputs);
    } catch (...) {
        give_back();
        throw;
    }
    give_back();
    row_.push_back(next_);
    next_ += rows_;
    return logits_.data();
}
