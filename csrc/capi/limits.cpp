#include "capi/limits.h"

#include <cstdint>
#include <limits>
#include <new>
#include <string>

#include "capi/structs.h"
#include "core/error.h"

namespace lrengine::capi {

Limits::Limits(const lrengine_limits* limits) {
    const lrengine_limits defaults = LRENGINE_LIMITS_INIT;
    const lrengine_limits given = from_caller(limits, defaults, "limits");
    cancellation_ = given.cancellation;
    if (given.deadline_microseconds == 0) return;
    if (given.deadline_microseconds < 0) {
        fail(ErrorCode::kInvalidArgument, "limits.deadline_microseconds: found " +
                                              std::to_string(given.deadline_microseconds) + ", expected 0 or more");
    }
    // A deadline beyond the clock's range is none.
    const Clock::time_point now = Clock::now();
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(Clock::time_point::max() - now);
    const std::chrono::microseconds wanted(given.deadline_microseconds);
    if (wanted < left) deadline_ = now + wanted;
}

std::optional<Interrupted> Limits::reached() const {
    if (cancellation_ != nullptr && cancellation_->requested.load(std::memory_order_relaxed)) {
        return Interrupted{LRENGINE_CANCELLED, "cancelled: the request's cancellation was requested"};
    }
    if (deadline_ && Clock::now() >= *deadline_) {
        return Interrupted{LRENGINE_DEADLINE, "deadline: the request's time is over"};
    }
    return std::nullopt;
}

void Limits::check() const {
    if (const auto interrupted = reached()) throw *interrupted;
}

Interruption Limits::interruption() const {
    if (!any()) return {};
    return [this] { check(); };
}

}  // namespace lrengine::capi

extern "C" {

lrengine_status lrengine_cancellation_create(lrengine_cancellation** cancellation) {
    return lrengine::capi::guard([&] {
        lrengine::capi::require_pointer(cancellation, "cancellation");
        *cancellation = new lrengine_cancellation;
    });
}

void lrengine_cancellation_request(lrengine_cancellation* cancellation) {
    if (cancellation != nullptr) cancellation->requested = true;
}

void lrengine_cancellation_free(lrengine_cancellation* cancellation) { delete cancellation; }

}  // extern "C"
