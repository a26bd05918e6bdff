#include "decode/random.h"

#include <random>

namespace lrengine {

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
    // Multipliers and Weyl increments of the paper, section 4.
    constexpr std::uint64_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
    constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product0 = kMultiplier0 * counter[0];
        const std::uint64_t product1 = kMultiplier1 * counter[2];
        counter = {
            static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(product1),
            static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(product0)};
        key[0] += kWeyl0;
        key[1] += kWeyl1;
    }
    return counter;
}

std::uint64_t mix_hash(std::uint64_t hash, std::span<const std::int32_t> values) {
    constexpr std::uint64_t kPrime = 0x100000001B3u;
    for (const std::int32_t value : values) hash = (hash ^ static_cast<std::uint32_t>(value)) * kPrime;
    // The length closes the list: (1, 2), (3) and (1), (2, 3) are different inputs.
    return (hash ^ values.size() ^ 0x9E3779B97F4A7C15u) * kPrime;
}

std::uint64_t random_seed() {
    std::random_device entropy;
    return (std::uint64_t{entropy()} << 32) | entropy();
}

double RandomStream::uniform(std::uint32_t step, std::uint32_t index) const {
    const auto words =
        philox({index, step, static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
               {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
    const std::uint64_t bits = (static_cast<std::uint64_t>(words[0]) << 21) ^ (words[1] >> 11);
    return (static_cast<double>(bits & ((std::uint64_t{1} << 53) - 1)) + 0.5) * 0x1.0p-53;
}

}  // namespace lrengine
