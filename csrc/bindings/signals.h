// Python's signals while the engine computes without the GIL.
#pragma once

#include "core/interruption.h"

namespace lrengine::bindings {

// Lets Python handle its signals, twenty times a second at most: taking the GIL may wait for other Python threads. What
// a handler raises (Ctrl-C: KeyboardInterrupt) ends the work. For threads that do not hold the GIL.
Interruption signals();

}  // namespace lrengine::bindings
