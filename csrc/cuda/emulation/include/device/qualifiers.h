// CUDA's qualifiers mean nothing to g++: every function is a host function here.
#pragma once

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
// Constants are the program's own static data, which kernels may read and must not write.
#define __constant__
