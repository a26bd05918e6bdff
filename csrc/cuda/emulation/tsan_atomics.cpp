// g++ -fsanitize=thread also turns std::atomic of host code into calls. They do what they say; kernels use CUDA's own
// atomics (include/device/atomics.h), so nothing is checked here.
#include <cstdint>

namespace {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

}  // namespace

#define EMULATION_FETCH(bits, name)                                                                 \
    extern "C" u##bits __tsan_atomic##bits##_##name(volatile u##bits* target, u##bits value, int) { \
        return __atomic_##name(target, value, __ATOMIC_SEQ_CST);                                    \
    }

#define EMULATION_EXCHANGE(bits, strength)                                                                        \
    extern "C" int __tsan_atomic##bits##_compare_exchange_##strength(volatile u##bits* target, u##bits* expected, \
                                                                     u##bits desired, int, int) {                 \
        return __atomic_compare_exchange_n(target, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    }

#define EMULATION_ATOMICS(bits)                                                                               \
    extern "C" u##bits __tsan_atomic##bits##_load(const volatile u##bits* source, int) {                      \
        return __atomic_load_n(source, __ATOMIC_SEQ_CST);                                                     \
    }                                                                                                         \
    extern "C" void __tsan_atomic##bits##_store(volatile u##bits* target, u##bits value, int) {               \
        __atomic_store_n(target, value, __ATOMIC_SEQ_CST);                                                    \
    }                                                                                                         \
    extern "C" u##bits __tsan_atomic##bits##_exchange(volatile u##bits* target, u##bits value, int) {         \
        return __atomic_exchange_n(target, value, __ATOMIC_SEQ_CST);                                          \
    }                                                                                                         \
    extern "C" u##bits __tsan_atomic##bits##_compare_exchange_val(volatile u##bits* target, u##bits expected, \
                                                                  u##bits desired, int, int) {                \
        __atomic_compare_exchange_n(target, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);   \
        return expected;                                                                                      \
    }                                                                                                         \
    EMULATION_FETCH(bits, fetch_add)                                                                          \
    EMULATION_FETCH(bits, fetch_sub)                                                                          \
    EMULATION_FETCH(bits, fetch_and)                                                                          \
    EMULATION_FETCH(bits, fetch_or)                                                                           \
    EMULATION_FETCH(bits, fetch_xor)                                                                          \
    EMULATION_FETCH(bits, fetch_nand)                                                                         \
    EMULATION_EXCHANGE(bits, strong)                                                                          \
    EMULATION_EXCHANGE(bits, weak)

EMULATION_ATOMICS(8)
EMULATION_ATOMICS(16)
EMULATION_ATOMICS(32)
EMULATION_ATOMICS(64)

extern "C" void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
extern "C" void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
