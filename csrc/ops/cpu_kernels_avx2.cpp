#if defined(__x86_64__)
#include "ops/simd_avx2.h"
// After the instruction set.
#include "ops/kernel_table.h"

namespace lrengine {

const CpuKernels& avx2_kernels() {
    static constexpr CpuKernels table = kernel_table<Avx2>();
    return table;
}

}  // namespace lrengine
#endif
