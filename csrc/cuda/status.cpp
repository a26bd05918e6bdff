#include "cuda/status.h"

namespace lrengine::cuda {

namespace {

// Errors after which every further call of the process's context fails too.
bool is_sticky(cudaError_t status) {
    switch (status) {
        case cudaErrorIllegalAddress:
        case cudaErrorMisalignedAddress:
        case cudaErrorLaunchFailure:
        case cudaErrorLaunchTimeout:
        case cudaErrorIllegalInstruction:
        case cudaErrorInvalidAddressSpace:
        case cudaErrorInvalidPc:
        case cudaErrorHardwareStackError:
        case cudaErrorAssert:
        case cudaErrorECCUncorrectable:
            return true;
        default:
            return false;
    }
}

}  // namespace

void fail_with(cudaError_t status, const std::string& what) {
    cudaGetLastError();  // the error is reported here: it must not be met again by the next call
    const bool stays = cudaPeekAtLastError() != cudaSuccess;  // whatever its code is
    const std::string text = what + ": " + cudaGetErrorString(status);
    if (status == cudaErrorMemoryAllocation && !stays) fail(ErrorCode::kOutOfMemory, text);
    if (stays || is_sticky(status)) {
        fail(ErrorCode::kDevice, text + "; the device's context is lost, the process must be started again");
    }
    fail(ErrorCode::kDevice, text);
}

}  // namespace lrengine::cuda
