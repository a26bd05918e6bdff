// Threads of ours take no signals: the host program's handlers keep running where it expects them.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace lrengine {

// While it lives, threads that the calling one starts begin with every signal blocked.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_;
};

}  // namespace lrengine
