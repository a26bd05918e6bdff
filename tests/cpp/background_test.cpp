// Values that another thread computes.
#include "core/background.h"

#include <pthread.h>
#include <signal.h>

#include <memory>
#include <thread>

#include "core/error.h"
#include "harness.h"

using namespace lrengine;

namespace {

bool signals_are_blocked() {
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, nullptr, &now);
    return sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGINT) == 1;
}

TEST(a_background_value_is_computed_on_another_thread_or_when_asked) {
    for (const bool beside : {true, false}) {
        Background<std::thread::id> id(beside, [] { return std::this_thread::get_id(); });
        CHECK_EQUAL(id.get() == std::this_thread::get_id(), !beside);
        Background<int> failing(beside, []() -> int { fail(ErrorCode::kModelFile, "from there"); });
        CHECK_ERROR(failing.get(), ErrorCode::kModelFile, "from there");
        Background<std::unique_ptr<int>> owned(beside, [] { return std::make_unique<int>(7); });
        CHECK_EQUAL(*owned.get(), 7);
    }
}

TEST(a_background_value_that_nobody_asks_for_is_waited_for) {
    bool done = false;
    {
        const Background<bool> value(true, [&] { return done = true; });
    }
    CHECK(done);
    {
        const Background<bool> value(false, [&] { return done = false; });
    }
    CHECK(done);  // nobody asked
}

TEST(a_background_thread_takes_no_signals_and_the_caller_still_does) {
    Background<bool> blocked(true, signals_are_blocked);
    CHECK(blocked.get());
    CHECK(!signals_are_blocked());
}

}  // namespace
