// When a call ends early: its cancellation or its deadline.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>

#include "capi/status.h"
#include "core/interruption.h"

struct lrengine_cancellation {
    std::atomic<bool> requested = false;
};

namespace lrengine::capi {

class Limits {
public:
    // The deadline counts from here. Throws Error(kInvalidArgument).
    explicit Limits(const lrengine_limits* limits);

    // Why the call ends now, if it does.
    std::optional<Interrupted> reached() const;
    // Throws it.
    void check() const;
    // check() as what ends work between its layers; empty without limits. Borrows this.
    Interruption interruption() const;
    bool any() const { return cancellation_ != nullptr || deadline_.has_value(); }

private:
    using Clock = std::chrono::steady_clock;

    const lrengine_cancellation* cancellation_ = nullptr;
    std::optional<Clock::time_point> deadline_;
};

}  // namespace lrengine::capi
