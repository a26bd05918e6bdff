// A value that another thread computes meanwhile.
#pragma once

#include <functional>
#include <future>
#include <system_error>
#include <utility>

#include "core/signals_blocked.h"

namespace lrengine {

// Starts computing at once, where a thread can be had and `beside` is set; else in get(). Destroying it waits.
template <typename T>
class Background {
public:
    Background(bool beside, std::function<T()> compute) {
        if (beside) {
            const SignalsBlocked blocked;
            try {
                value_ = std::async(std::launch::async, compute);
                return;
            } catch (const std::system_error&) {  // no thread to be had: it goes without
            }
        }
        value_ = std::async(std::launch::deferred, std::move(compute));
    }

    // Waits; once only. Throws what computing threw.
    T get() { return value_.get(); }

private:
    std::future<T> value_;
};

}  // namespace lrengine
