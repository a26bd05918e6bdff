// Shared memory in source that also compiles for the emulation, where a block's shared memory is not the program's.
#pragma once

#ifdef LRENGINE_CUDA_EMULATION

#include <cuda_runtime.h>

// type (&name)[count]
#define LRENGINE_SHARED(type, name, count)                  \
    static const char name##_site = 0;                      \
    type(&name)[count] = *reinterpret_cast<type(*)[count]>( \
        ::emulation::static_shared(&name##_site, sizeof(type[count]), alignof(type)))

// type* name, aligned to 16 bytes; all of a kernel's are the same memory.
#define LRENGINE_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::emulation::dynamic_shared())

#else

#define LRENGINE_SHARED(type, name, count) __shared__ type name[count]

// One untyped array for all kernels of a file: the linker knows only one type for the name.
#define LRENGINE_DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char lrengine_dynamic_shared[]; \
    type* const name = reinterpret_cast<type*>(lrengine_dynamic_shared)

#endif
