// Random numbers without state: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace lrengine {

// Ten rounds of the Philox4x32 bijection on `counter` under `key`.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// Mixes `values` into `hash` (FNV-1a over 32-bit words): tells streams of different inputs apart.
std::uint64_t mix_hash(std::uint64_t hash, std::span<const std::int32_t> values);

// From the operating system's entropy.
std::uint64_t random_seed();

// The numbers that one row draws. They depend on the seed, on the row's own stream and on (step, index) alone, so that
// a row draws the same numbers in any batch.
class RandomStream {
public:
    RandomStream(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

    // Uniform in (0, 1), 53 bits.
    double uniform(std::uint32_t step, std::uint32_t index) const;

    std::uint64_t seed() const { return seed_; }
    std::uint64_t stream() const { return stream_; }

private:
    std::uint64_t seed_;
    std::uint64_t stream_;
};

}  // namespace lrengine
