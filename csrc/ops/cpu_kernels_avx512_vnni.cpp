#if defined(__x86_64__)
#include "ops/simd_avx512_vnni.h"
// After the instruction set.
#include "ops/kernel_table.h"

namespace lrengine {

const CpuKernels& avx512_vnni_kernels() {
    static const CpuKernels table = with_rounded<Avx512Vnni>(avx512_kernels());
    return table;
}

}  // namespace lrengine
#endif
