#include "cuda/architectures.h"

namespace lrengine::cuda {

bool kernels_wait([[maybe_unused]] int capability) {
#if defined(__CUDA_ARCH_LIST__)
    for (const int built : {__CUDA_ARCH_LIST__}) {
        if (built >= 900 && built <= 10 * capability) return true;
    }
    return false;
#else
    return true;  // the emulation
#endif
}

}  // namespace lrengine::cuda
