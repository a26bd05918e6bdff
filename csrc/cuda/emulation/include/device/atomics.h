// Atomic operations. Each is checked like any access; two of them on one address never race.
#pragma once

#include <cstddef>
#include <type_traits>

namespace emulation {

// Checks an atomic access of the running thread, and lets other threads run now and then, so that a loop that waits for
// a value ends.
void atomic_access(void* address, std::size_t bytes);

// Threads of a kernel run one at a time: read, change, write is atomic.
template <typename T, typename Change>
[[gnu::no_sanitize("thread")]] T atomic_change(T* address, Change change) {
    atomic_access(address, sizeof(T));
    const T before = *address;
    *address = change(before);
    return before;
}

template <typename T>
using Plain = std::type_identity_t<T>;  // the second argument converts to the type of the first

}  // namespace emulation

#define EMULATION_ATOMIC(name, expression)                                                       \
    template <typename T>                                                                        \
    T name(T* address, emulation::Plain<T> value) {                                              \
        return emulation::atomic_change(address, [value](T before) -> T { return expression; }); \
    }
EMULATION_ATOMIC(atomicAdd, static_cast<T>(before + value))
EMULATION_ATOMIC(atomicSub, static_cast<T>(before - value))
EMULATION_ATOMIC(atomicMin, value < before ? value : before)
EMULATION_ATOMIC(atomicMax, value > before ? value : before)
EMULATION_ATOMIC(atomicAnd, static_cast<T>(before& value))
EMULATION_ATOMIC(atomicOr, static_cast<T>(before | value))
EMULATION_ATOMIC(atomicXor, static_cast<T>(before ^ value))
EMULATION_ATOMIC(atomicExch, ((void)before, value))
EMULATION_ATOMIC(atomicInc, before >= value ? T{0} : static_cast<T>(before + 1))
EMULATION_ATOMIC(atomicDec, before == T{0} || before > value ? value : static_cast<T>(before - 1))
#undef EMULATION_ATOMIC

template <typename T>
T atomicCAS(T* address, emulation::Plain<T> expected, emulation::Plain<T> desired) {
    return emulation::atomic_change(
        address, [expected, desired](T before) -> T { return before == expected ? desired : before; });
}
