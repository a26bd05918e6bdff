// The check of one load or store. The common cases are inlined into the entry points that g++ calls.
#pragma once

#include "device_memory.h"
#include "order.h"

namespace emulation {

// How an access is made. A volatile access of global memory is the poor man's relaxed atomic, and counts as one.
struct Access {
    std::uintptr_t address;
    std::size_t bytes;
    bool write, atomic;
    bool aligned;      // by its type; else it is made in pieces
    const void* from;  // the code that makes it
};

// Everything that is not in the running thread's stack, slowly and completely. Does not return from a fault.
void check_access(Run& run, const Access& access);
// Host code of a .cu file at device memory.
void host_touches_device(const Access& access);
bool is_device_address(std::uintptr_t address);

// What atomics do besides the access (barriers.cpp).
void note_atomic(Run& run);
void spin_turn(Run& run);

}  // namespace emulation
