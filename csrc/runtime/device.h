// Which backend an engine computes with.
#pragma once

#include <memory>

#include "ops/backend.h"
#include "runtime/engine.h"

namespace lrengine {

// Throws Error(kDevice) for a device that this build or machine does not have, Error(kInvalidArgument) for an unknown
// name or a negative thread count.
std::unique_ptr<Backend> make_backend(const EngineOptions& options);

}  // namespace lrengine
