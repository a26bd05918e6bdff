// Threads of ours take no signals: the host program's handlers keep running where it expects them.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace lrengine {

// While it lives, threads that the calling one starts begin with every signal blocked that another thread could take.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        // What a thread does itself: blocked, it ends the process past any handler of the program's.
        for (const int fault : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP}) sigdelset(&all, fault);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_;
};

}  // namespace lrengine
