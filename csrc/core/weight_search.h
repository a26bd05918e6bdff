// The search of weights for numbers that no weight can be, made beside whatever the program does after opening a model.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "core/checkpoint.h"
#include "core/interruption.h"

namespace lrengine {

// Throws Error(kModelFile) naming the tensor: it holds NaN or Inf, or -128 if it is int8.
[[noreturn]] void refuse_values(const TensorRecord& record);

// Reads every number once: some 50 ms a gigabyte on one thread, or as long as the disk takes. add(), then start(), then
// finish() from any number of threads. The records and their mapping outlive it. A child of fork() searches anew, as
// parts that other threads had taken may not have been looked at.
class WeightSearch {
public:
    WeightSearch() = default;
    ~WeightSearch();  // ends the search where it is
    WeightSearch(const WeightSearch&) = delete;
    WeightSearch& operator=(const WeightSearch&) = delete;

    void add(const TensorRecord& record);
    // Before start(), of a record in a file's mapping: its pages stop counting as this process's memory as soon as they
    // were searched (MappedFile::release), but for one and its neighbours where two parts meet. keep() takes that back.
    void release(const TensorRecord& record) { released_.insert(&record); }
    void keep(const TensorRecord& record) { released_.erase(&record); }
    // Begins on a thread of its own. Where none can be had, finish() makes the whole search.
    void start();

    // Returns when all was looked at, with the calling thread's help. Throws what refuse_values() throws for the first
    // such record that was added, in every call alike, and what `interruption` throws, which is called every few
    // megabytes; the search goes on where it was.
    void finish(const Interruption& interruption = {}) const;

private:
    // Some megabytes of a tensor.
    struct Part {
        const TensorRecord* record;
        std::int64_t begin, end;
    };

    static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

    void search(std::size_t index) const;
    // Looks at the next part that no thread has taken; false if there is none.
    bool search_next() const;
    bool all_searched() const { return searched_.load(std::memory_order_acquire) >= parts_.size(); }
    // In a child of fork(), once: nothing was taken yet.
    void begin_anew_in_child() const;

    std::vector<Part> parts_;
    std::set<const TensorRecord*> released_;
    std::optional<pthread_t> thread_;  // of started_by_. No std::thread: that frees memory whenever it happens to end
    pid_t started_by_ = 0;
    mutable std::atomic<pid_t> process_{0};                    // whose counts these are; -it while it begins
    mutable std::atomic<std::size_t> taken_{0}, searched_{0};  // parts
    mutable std::atomic<std::size_t> broken_{kNone};           // the first part that is, of those searched
};

}  // namespace lrengine
