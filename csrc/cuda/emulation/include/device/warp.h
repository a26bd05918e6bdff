// Shuffles, votes and reductions of a warp. Every lane that the mask names must come to the same operation.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "builtins.h"

namespace emulation {

enum class WarpOperation : std::uint8_t {
    kSync,
    kShuffle,
    kBallot,
    kMatchAny,
    kAdd,
    kMinSigned,
    kMaxSigned,
    kMinUnsigned,
    kMaxUnsigned,
    kAnd,
    kOr,
    kXor
};

// One lane's part: `value` goes in; out comes the value of lane `source` (kShuffle), the mask of lanes with a value
// other than 0 (kBallot) or with an equal value (kMatchAny), or the reduction. Waits for all lanes of `mask`.
std::uint64_t warp_collective(WarpOperation operation, unsigned mask, std::uint64_t value, int source,
                              const std::source_location& where);
unsigned active_mask();
inline int lane_index() {
    return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31u);
}

template <typename T>
T shuffle(unsigned mask, T value, int source, const std::source_location& where) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = warp_collective(WarpOperation::kShuffle, mask, bits, source, where);
    T result;
    std::memcpy(static_cast<void*>(&result), &bits, sizeof(T));
    return result;
}

// The lane that a shuffle reads, in segments of `width` lanes; outside of its segment a lane reads itself.
inline int up_source(unsigned delta, int width) {
    const int lane = lane_index(), first = lane & ~(width - 1), source = lane - static_cast<int>(delta);
    return source < first ? lane : source;
}
inline int down_source(unsigned delta, int width) {
    const int lane = lane_index(), last = lane | (width - 1), source = lane + static_cast<int>(delta);
    return source > last ? lane : source;
}
inline int xor_source(int bits, int width) {
    const int lane = lane_index(), last = lane | (width - 1), source = lane ^ bits;
    return source > last ? lane : source;
}

}  // namespace emulation

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              const EmulationWhere& where = EmulationWhere::current()) {
    const int first = emulation::lane_index() & ~(width - 1);
    return emulation::shuffle(mask, value, first | (source & (width - 1)), where);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 const EmulationWhere& where = EmulationWhere::current()) {
    return emulation::shuffle(mask, value, emulation::up_source(delta, width), where);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   const EmulationWhere& where = EmulationWhere::current()) {
    return emulation::shuffle(mask, value, emulation::down_source(delta, width), where);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  const EmulationWhere& where = EmulationWhere::current()) {
    return emulation::shuffle(mask, value, emulation::xor_source(bits, width), where);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, const EmulationWhere& where = EmulationWhere::current()) {
    emulation::warp_collective(emulation::WarpOperation::kSync, mask, 0, 0, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const EmulationWhere& where = EmulationWhere::current()) {
    return static_cast<unsigned>(
        emulation::warp_collective(emulation::WarpOperation::kBallot, mask, predicate != 0, 0, where));
}
inline int __any_sync(unsigned mask, int predicate, const EmulationWhere& where = EmulationWhere::current()) {
    return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, const EmulationWhere& where = EmulationWhere::current()) {
    return __ballot_sync(mask, predicate, where) == mask;
}
inline unsigned __activemask() { return emulation::active_mask(); }

template <typename T>
unsigned __match_any_sync(unsigned mask, T value, const EmulationWhere& where = EmulationWhere::current()) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return static_cast<unsigned>(emulation::warp_collective(emulation::WarpOperation::kMatchAny, mask, bits, 0, where));
}

#define EMULATION_WARP_REDUCTION(name, type, operation)                                                    \
    inline type name(unsigned mask, type value, const EmulationWhere& where = EmulationWhere::current()) { \
        return static_cast<type>(emulation::warp_collective(emulation::WarpOperation::operation, mask,     \
                                                            static_cast<std::uint32_t>(value), 0, where)); \
    }
EMULATION_WARP_REDUCTION(__reduce_add_sync, unsigned, kAdd)
EMULATION_WARP_REDUCTION(__reduce_add_sync, int, kAdd)
EMULATION_WARP_REDUCTION(__reduce_min_sync, unsigned, kMinUnsigned)
EMULATION_WARP_REDUCTION(__reduce_min_sync, int, kMinSigned)
EMULATION_WARP_REDUCTION(__reduce_max_sync, unsigned, kMaxUnsigned)
EMULATION_WARP_REDUCTION(__reduce_max_sync, int, kMaxSigned)
EMULATION_WARP_REDUCTION(__reduce_and_sync, unsigned, kAnd)
EMULATION_WARP_REDUCTION(__reduce_or_sync, unsigned, kOr)
EMULATION_WARP_REDUCTION(__reduce_xor_sync, unsigned, kXor)
#undef EMULATION_WARP_REDUCTION
