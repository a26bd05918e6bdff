// The order of turns: reproducible from a seed, and cheap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace emulation {

// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
class Random {
public:
    explicit Random(std::uint64_t seed) : state_((seed + 1) * 0x9e3779b97f4a7c15u | 1u) {}
    std::uint32_t next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return static_cast<std::uint32_t>((state_ * 0x2545f4914f6cdd1du) >> 32);
    }
    std::uint32_t below(std::uint32_t bound) {
        return static_cast<std::uint32_t>((static_cast<std::uint64_t>(next()) * bound) >> 32);
    }
    template <typename T>
    void shuffle(T* values, std::size_t count) {
        for (std::size_t i = count; i > 1; --i) std::swap(values[i - 1], values[below(static_cast<std::uint32_t>(i))]);
    }

private:
    std::uint64_t state_;
};

// 0 .. count - 1 in a random order.
class Permutation {
public:
    Permutation(std::uint32_t count, Random& random) : values_(count) {
        std::iota(values_.begin(), values_.end(), 0u);
        random.shuffle(values_.data(), count);
    }
    std::uint32_t operator[](std::uint32_t i) const { return values_[i]; }

private:
    std::vector<std::uint32_t> values_;
};

}  // namespace emulation
