#include "core/weight_search.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/forks.h"
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
    if (!thread_ || is_forked_copy()) return;  // it stayed in the parent
    taken_.store(parts_.size());
    pthread_join(*thread_, nullptr);
}

bool WeightSearch::is_forked_copy() const { return born_ != forks_so_far(); }

void WeightSearch::add(const TensorRecord& record) {
    const std::size_t width = size_of(record.dtype);
    const auto count = static_cast<std::int64_t>(record.bytes / width);
    const auto step = static_cast<std::int64_t>(kPartBytes / width);
    for (std::int64_t begin = 0; begin < count; begin += step) {
        parts_.push_back({&record, begin, std::min(begin + step, count)});
    }
}

void WeightSearch::start() {
    born_ = forks_so_far();
    const SignalsBlocked blocked;
    const auto run = [](void* search) -> void* {
        while (static_cast<const WeightSearch*>(search)->search_next()) {
        }
        return nullptr;
    };
    pthread_t thread;
    if (pthread_create(&thread, nullptr, run, this) == 0) thread_ = thread;
}

void WeightSearch::search(const Part& part) const {
    if (broken_.load(std::memory_order_relaxed) != nullptr) return;
    const TensorRecord& record = *part.record;
    const char* data =
        static_cast<const char*>(record.data) + static_cast<std::size_t>(part.begin) * size_of(record.dtype);
    if (!values_are_sound(data, record.dtype, part.end - part.begin)) broken_.store(&record);
}

bool WeightSearch::search_next() const {
    const std::size_t index = taken_.fetch_add(1);
    if (index >= parts_.size()) return false;
    search(parts_[index]);
    searched_.fetch_add(1, std::memory_order_release);
    return true;
}

void WeightSearch::finish(const Interruption& interruption) const {
    const auto go_on = [&] {
        if (interruption) interruption();
    };
    if (!all_searched() && is_forked_copy()) {
        for (const Part& part : parts_) {
            search(part);
            go_on();
        }
        searched_.store(parts_.size(), std::memory_order_release);
    }
    while (!all_searched() && search_next()) go_on();
    while (!all_searched()) {
        std::this_thread::sleep_for(kPoll);
        go_on();
    }
    refuse_found();
}

void WeightSearch::refuse_found() const {
    if (const TensorRecord* record = broken_.load()) refuse_values(*record);
}

}  // namespace lrengine
