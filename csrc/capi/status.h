// From exceptions to statuses: nothing is thrown through the C interface.
#pragma once

#include <string_view>

#include "lrengine/lrengine.h"

namespace lrengine::capi {

// An early end that the caller asked for; not an Error of the engine.
struct Interrupted {
    lrengine_status status;
    const char* message;
};

// Keeps the message for lrengine_last_error(); allocates nothing, and cuts what is very long.
lrengine_status remember(lrengine_status status, std::string_view message) noexcept;
// The same for the exception that is being handled.
lrengine_status remember_exception() noexcept;

template <typename Body>
lrengine_status guard(Body body) noexcept {
    try {
        body();
        return LRENGINE_OK;
    } catch (...) {
        return remember_exception();
    }
}

}  // namespace lrengine::capi
