#include "ops/simd_portable.h"
// After the instruction set.
#include "ops/kernel_table.h"

namespace lrengine {

const CpuKernels& portable_kernels() {
    static constexpr CpuKernels table = kernel_table<Portable>();
    return table;
}

}  // namespace lrengine
