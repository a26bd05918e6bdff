#if defined(__x86_64__)
#include "ops/simd_avx2_vnni.h"
// After the instruction set.
#include "ops/kernel_table.h"

namespace lrengine {

const CpuKernels& avx2_vnni_kernels() {
#if defined(__AVXVNNI__)
    static const CpuKernels table = with_rounded<Avx2Vnni>(avx2_kernels());
    return table;
#else  // a compiler that does not know it
    return avx2_kernels();
#endif
}

}  // namespace lrengine
#endif
