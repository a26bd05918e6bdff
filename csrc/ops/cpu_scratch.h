// Scratch memory of a thread: grows to the largest request and is kept until the thread ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "core/error.h"

namespace lrengine {

class Scratch {
public:
    // Room for `count` elements, 64-byte aligned, contents undefined. Ends the life of what was got before.
    template <typename T>
    T* get(std::int64_t count) {
        return static_cast<T*>(reserve(static_cast<std::size_t>(count) * sizeof(T)));
    }

private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };

    void* reserve(std::size_t bytes) {
        if (bytes > size_) {
            const std::size_t wanted = (bytes + bytes / 4 + 63) / 64 * 64;
            size_ = 0;
            memory_.reset(std::aligned_alloc(64, wanted));
            if (!memory_) fail(ErrorCode::kOutOfMemory, "scratch memory: " + std::to_string(wanted) + " bytes");
            size_ = wanted;
        }
        return memory_.get();
    }

    std::unique_ptr<void, Free> memory_;
    std::size_t size_ = 0;
};

// For the pieces of a job, which run in several threads.
inline Scratch& piece_scratch() {
    thread_local Scratch scratch;
    return scratch;
}

// For the one that starts a job: what its pieces share. The caller runs pieces too, hence the two.
inline Scratch& job_scratch() {
    thread_local Scratch scratch;
    return scratch;
}

}  // namespace lrengine
