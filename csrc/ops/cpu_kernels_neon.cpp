#if defined(__aarch64__)
#include "ops/simd_neon.h"
// After the instruction set.
#include "ops/kernel_table.h"

namespace lrengine {

const CpuKernels& neon_kernels() {
    static constexpr CpuKernels table = kernel_table<Neon>();
    return table;
}

}  // namespace lrengine
#endif
