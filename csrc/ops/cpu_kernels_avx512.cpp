#if defined(__x86_64__)
#include "ops/simd_avx512.h"
// After the instruction set.
#include "ops/kernel_table.h"

namespace lrengine {

const CpuKernels& avx512_kernels() {
    static constexpr CpuKernels table = kernel_table<Avx512>();
    return table;
}

}  // namespace lrengine
#endif
