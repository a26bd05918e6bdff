// How long work is ended between its pieces.
#pragma once

#include <functional>

namespace lrengine {

// Called by the computing thread between pieces (the layers of a forward pass); throws what ends the work. May be
// empty.
using Interruption = std::function<void()>;

}  // namespace lrengine
