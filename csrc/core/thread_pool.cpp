#include "core/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/signals_blocked.h"
#include "core/turns.h"

namespace lrengine {

namespace {

constexpr int kMostThreads = 1024;
// A pause is 40 to 140 cycles, so this is 50 to 200 microseconds: longer than the gap between two ops of a decode step,
// shorter than what anybody else on the machine would notice.
constexpr int kSpins = 4000;
// What a caller computes before another's turn: some steps of a small model, or one op of a large one. Waking the next
// caller takes 5 to 50 microseconds.
constexpr std::chrono::microseconds kTurn{500};

void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// How many forks lie between the first process and this one; a pool of an older process has no workers here.
std::atomic<unsigned> forks{0};

unsigned count_forks() {
    static const int registered = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1); });
    static_cast<void>(registered);
    return forks.load(std::memory_order_relaxed);
}

thread_local bool inside_piece = false;

using Body = std::function<void(std::int64_t, std::int64_t)>;

// Piece `index` of `pieces` covers whole grains; the last one ends at `count`.
struct Job {
    const Body* body = nullptr;
    std::int64_t count = 0, grain = 1, units = 0, pieces = 0;

    void run(std::int64_t index) const {
        const std::int64_t begin = units * index / pieces * grain;
        const std::int64_t end = std::min(units * (index + 1) / pieces * grain, count);
        (*body)(begin, end);
    }
};

}  // namespace

struct ThreadPool::State {
    // Low 16 bits: pieces of the current job that nobody took; above: its number. Whoever lowers it owns a piece, so
    // pieces of a worker that the machine is slow to run are done by another, and run() waits for owners alone.
    std::atomic<std::uint64_t> ticket{0};
    std::atomic<int> unfinished{0};
    std::atomic<int> sleepers{0};
    std::atomic<bool> stopping{false};
    Job job;
    std::exception_ptr failure;
    std::mutex failure_mutex;
    std::mutex sleep_mutex;
    std::condition_variable wake;
    Turns callers{kTurn};
    std::vector<std::thread> workers;
    unsigned born = 0;  // count_forks() at construction

    // Runs pieces of job `number` until none is left.
    void run_pieces(std::uint64_t number) {
        std::uint64_t now = ticket.load();
        while (now >> 16 == number && (now & 0xffff) != 0) {
            if (!ticket.compare_exchange_weak(now, now - 1)) continue;
            run_piece(job.pieces - static_cast<std::int64_t>(now & 0xffff));
            if (unfinished.fetch_sub(1) == 1) unfinished.notify_one();
            now = ticket.load();
        }
    }

    void run_piece(std::int64_t index) {
        inside_piece = true;
        try {
            job.run(index);
        } catch (...) {
            const std::lock_guard lock(failure_mutex);
            if (!failure) failure = std::current_exception();
        }
        inside_piece = false;
    }

    // Waits for a job other than `seen`: spinning, then asleep. `ticket` and `sleepers` are sequentially consistent, so
    // either the worker sees the new job or publish() sees the sleeper.
    std::uint64_t next_job(std::uint64_t seen) {
        for (int spin = 0; spin < kSpins; ++spin) {
            const std::uint64_t number = ticket.load() >> 16;
            if (number != seen) return number;
            pause();
        }
        std::unique_lock lock(sleep_mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return ticket.load() >> 16 != seen; });
        sleepers.fetch_sub(1);
        return ticket.load() >> 16;
    }

    // Returns the new job's number.
    std::uint64_t publish(std::int64_t pieces) {
        const std::uint64_t number = (ticket.load() >> 16) + 1;
        ticket.store(number << 16 | static_cast<std::uint64_t>(pieces));
        if (sleepers.load() > 0) {
            const std::lock_guard lock(sleep_mutex);
            wake.notify_all();
        }
        return number;
    }

    void work() {
        std::uint64_t seen = 0;
        while (true) {
            seen = next_job(seen);
            if (stopping.load()) return;
            run_pieces(seen);
        }
    }

    void wait_for_owners() {
        for (int spin = 0; spin < kSpins; ++spin) {
            if (unfinished.load() == 0) return;
            pause();
        }
        for (int left = unfinished.load(); left != 0; left = unfinished.load()) unfinished.wait(left);
    }

    void start(int threads) {
        try {
            const SignalsBlocked blocked;
            while (static_cast<int>(workers.size()) + 1 < threads) workers.emplace_back([this] { work(); });
        } catch (const std::system_error& error) {
            stop();
            fail(ErrorCode::kOutOfMemory, "cannot start " + std::to_string(threads) + " threads: " + error.what());
        }
    }

    void stop() {
        stopping.store(true);
        publish(0);
        for (std::thread& worker : workers) worker.join();
        workers.clear();
    }

    bool is_forked_copy() const { return born != forks.load(std::memory_order_relaxed); }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
    if (threads < 1 || threads > kMostThreads) {
        fail(ErrorCode::kInvalidArgument,
             "threads: found " + std::to_string(threads) + ", expected 1 to " + std::to_string(kMostThreads));
    }
    state_->born = count_forks();
    state_->start(threads);
}

ThreadPool::~ThreadPool() {
    if (state_->is_forked_copy()) {
        // The threads and whoever held the locks stayed in the parent: there is nothing to join and nothing safe to
        // destroy.
        static_cast<void>(state_.release());
        return;
    }
    state_->stop();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(std::int64_t count, std::int64_t grain, const Body& body) {
    if (count <= 0) return;
    if (grain < 1) fail(ErrorCode::kInternal, "thread pool: a grain below 1");
    const std::int64_t units = count / grain + (count % grain != 0 ? 1 : 0);
    const std::int64_t pieces = std::min<std::int64_t>(units, threads());
    if (pieces == 1 || inside_piece || state_->is_forked_copy()) {
        body(0, count);
        return;
    }
    const std::lock_guard lock(state_->callers);
    state_->job = {&body, count, grain, units, pieces};
    state_->unfinished.store(static_cast<int>(pieces));
    state_->run_pieces(state_->publish(pieces));
    state_->wait_for_owners();
    if (state_->failure) std::rethrow_exception(std::exchange(state_->failure, nullptr));
}

}  // namespace lrengine
