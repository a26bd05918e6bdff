// Searches over logits that Python computes: a model that runs elsewhere (ONNX Runtime) gets the engine's decoding.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "bindings/conversions.h"
#include "runtime/engine.h"

namespace lrengine::bindings {

// What decoding needs to know of such a model.
struct OutsideModel {
    std::int64_t vocab_size;
    std::int64_t max_length;  // cache positions of a row; 0: no limit
    std::vector<std::int32_t> end_tokens;
    // begin(rows_per_source, max_new_tokens) gives an object with
    //     capacity: int, prefill_lengths: list of int (one a source),
    //     prefill() and step(tokens, slots, sources, lengths, history), as DecodeState has them: int32 arrays [M],
    //     history [M, capacity] or None. Both give logits [rows, vocab_size] as a C-contiguous float32 array, which is
    //     read in place until the next call.
    pybind11::object begin;
};

// A session over the sources of a request, whose ids have been checked. `forced`: what is fed before the first choice.
// What the callbacks raise ends the request and reaches the caller of step(). Needs the GIL.
std::unique_ptr<Session> start_outside(OutsideModel model, const std::vector<IdArray>& sources,
                                       const std::vector<IdArray>& prompts, const std::vector<IdArray>& forced,
                                       const pybind11::dict& options, const pybind11::object& stop);

}  // namespace lrengine::bindings
