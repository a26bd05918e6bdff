#include "core/weight_search.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/mapped_file.h"
#include "core/signals_blocked.h"
#include "core/weight_convert.h"

namespace lrengine {

namespace {

constexpr std::size_t kPartBytes = std::size_t{4} << 20;  // 0.2 ms from memory, 4 ms from a disk
// What is left when finish() has nothing to help with is less than a part of each other thread.
constexpr std::chrono::microseconds kPoll{50};

}  // namespace

void refuse_values(const TensorRecord& record) {
    const bool integers = record.dtype == DType::kInt8;
    fail(ErrorCode::kModelFile, record.file + ": " + record.name + ": found " + (integers ? "-128" : "NaN or Inf") +
                                    ", expected " + (integers ? "values from -127 to 127" : "finite numbers"));
}

WeightSearch::~WeightSearch() {
    if (!thread_ || started_by_ != ::getpid()) return;  // a child has no such thread
    taken_.store(parts_.size());
    pthread_join(*thread_, nullptr);
}

void WeightSearch::add(const TensorRecord& record) {
    const std::size_t width = size_of(record.dtype);
    const auto count = static_cast<std::int64_t>(record.bytes / width);
    const auto step = static_cast<std::int64_t>(kPartBytes / width);
    for (std::int64_t begin = 0; begin < count; begin += step) {
        parts_.push_back({&record, begin, std::min(begin + step, count)});
    }
}

void WeightSearch::start() {
    started_by_ = ::getpid();
    process_.store(started_by_);
    const SignalsBlocked blocked;
    const auto run = [](void* search) -> void* {
        while (static_cast<const WeightSearch*>(search)->search_next()) {
        }
        return nullptr;
    };
    pthread_t thread;
    if (pthread_create(&thread, nullptr, run, this) == 0) thread_ = thread;
}

void WeightSearch::search(std::size_t index) const {
    std::size_t broken = broken_.load(std::memory_order_relaxed);
    if (broken < index) return;
    const Part& part = parts_[index];
    const TensorRecord& record = *part.record;
    const std::size_t width = size_of(record.dtype);
    const auto begin = static_cast<std::size_t>(part.begin) * width, end = static_cast<std::size_t>(part.end) * width;
    const auto* data = static_cast<const std::byte*>(record.data);
    const bool sound = values_are_sound(data + begin, record.dtype, part.end - part.begin);
    if (released_.contains(&record)) MappedFile::release({data + begin, data + end});
    if (sound) return;
    while (index < broken && !broken_.compare_exchange_weak(broken, index)) {
    }
}

bool WeightSearch::search_next() const {
    const std::size_t index = taken_.fetch_add(1);
    if (index >= parts_.size()) return false;
    search(index);
    searched_.fetch_add(1, std::memory_order_release);
    return true;
}

void WeightSearch::begin_anew_in_child() const {
    const pid_t self = ::getpid();
    for (pid_t owner = process_.load(); owner != self; owner = process_.load()) {
        if (owner == -self) {  // another thread is at it
            std::this_thread::yield();
        } else if (process_.compare_exchange_strong(owner, -self)) {
            searched_.store(0);
            taken_.store(0);
            process_.store(self);
        }
    }
}

void WeightSearch::finish(const Interruption& interruption) const {
    while (!all_searched()) {
        begin_anew_in_child();  // the interruption may have forked
        if (!search_next()) std::this_thread::sleep_for(kPoll);
        if (interruption) interruption();
    }
    if (const std::size_t broken = broken_.load(); broken != kNone) refuse_values(*parts_[broken].record);
}

}  // namespace lrengine
