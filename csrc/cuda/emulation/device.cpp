// The device that the API describes (an H200 with fewer multiprocessors, unless a test says otherwise), and errors.
#include <cstdio>
#include <cstring>

#include "capture.h"
#include "device_memory.h"
#include "runtime.h"

using emulation::Lock;
using emulation::remember;
using emulation::runtime;

namespace {

constexpr int kRuntimeVersion = CUDART_VERSION;

int attribute_value(cudaDeviceAttr attribute) {
    const emulation::DeviceSettings& device = runtime().device;
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock:
            return 1024;
        case cudaDevAttrMaxSharedMemoryPerBlock:
            return static_cast<int>(emulation::kSharedDefault);
        case cudaDevAttrWarpSize:
        case cudaDevAttrMaxBlocksPerMultiprocessor:
            return 32;
        case cudaDevAttrMaxRegistersPerBlock:
        case cudaDevAttrMaxRegistersPerMultiprocessor:
            return 65536;
        case cudaDevAttrMultiProcessorCount:
            return device.multiprocessors;
        case cudaDevAttrIntegrated:
            return 0;
        case cudaDevAttrL2CacheSize:
            return device.l2_cache_bytes;
        case cudaDevAttrMaxThreadsPerMultiProcessor:
            return 2048;
        case cudaDevAttrUnifiedAddressing:
        case cudaDevAttrCooperativeLaunch:
        case cudaDevAttrMemoryPoolsSupported:
            return 1;
        case cudaDevAttrComputeCapabilityMajor:
            return device.major;
        case cudaDevAttrComputeCapabilityMinor:
            return device.minor;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
            return static_cast<int>(emulation::kSharedOfMultiprocessor);
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            return static_cast<int>(emulation::kSharedOptIn);
        case cudaDevAttrReservedSharedMemoryPerBlock:
            return static_cast<int>(emulation::kSharedReserved);
    }
    return -1;
}

struct ErrorName {
    cudaError_t error;
    const char* name;
    const char* text;
};

constexpr ErrorName kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorCooperativeLaunchTooLarge, "cudaErrorCooperativeLaunchTooLarge", "too many blocks in cooperative launch"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
     "the graph update was not performed because it included changes which violated constraints"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const ErrorName* find_error(cudaError_t error) {
    for (const ErrorName& entry : kErrors) {
        if (entry.error == error) return &entry;
    }
    return nullptr;
}

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
    const Lock lock(runtime().mutex);
    if (count == nullptr) return remember(cudaErrorInvalidValue);
    *count = 0;
    if (const cudaError_t broken = emulation::check_device(); broken != cudaSuccess) return remember(broken);
    *count = runtime().device.count;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    EMULATION_API_BEGIN;
    *device = 0;
    return cudaSuccess;
}

// All devices are one: only the first can be chosen.
cudaError_t cudaSetDevice(int device) {
    EMULATION_API_BEGIN;
    return remember(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    EMULATION_API_BEGIN;
    if (device < 0 || device >= runtime().device.count) return remember(cudaErrorInvalidDevice);
    const int found = attribute_value(attribute);
    if (value == nullptr || found < 0) return remember(cudaErrorInvalidValue);
    *value = found;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    EMULATION_API_BEGIN;
    if (device < 0 || device >= runtime().device.count) return remember(cudaErrorInvalidDevice);
    cudaDeviceProp filled{};
    std::snprintf(filled.name, sizeof(filled.name), "CUDA emulation on the CPU");
    filled.totalGlobalMem = runtime().device.memory_bytes;
    filled.sharedMemPerBlock = emulation::kSharedDefault;
    filled.sharedMemPerBlockOptin = emulation::kSharedOptIn;
    filled.sharedMemPerMultiprocessor = emulation::kSharedOfMultiprocessor;
    filled.reservedSharedMemPerBlock = emulation::kSharedReserved;
    filled.regsPerBlock = filled.regsPerMultiprocessor = 65536;
    filled.warpSize = 32;
    filled.maxThreadsPerBlock = 1024;
    filled.maxThreadsPerMultiProcessor = 2048;
    filled.maxBlocksPerMultiProcessor = 32;
    const int threads[3] = {1024, 1024, 64}, blocks[3] = {2147483647, 65535, 65535};
    std::memcpy(filled.maxThreadsDim, threads, sizeof(threads));
    std::memcpy(filled.maxGridSize, blocks, sizeof(blocks));
    filled.major = runtime().device.major;
    filled.minor = runtime().device.minor;
    filled.multiProcessorCount = runtime().device.multiprocessors;
    filled.l2CacheSize = runtime().device.l2_cache_bytes;
    filled.memoryBusWidth = 6144;
    filled.concurrentKernels = filled.cooperativeLaunch = filled.unifiedAddressing = 1;
    *properties = filled;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
    EMULATION_API_BEGIN;
    runtime().overlapping_epoch = 0;
    return remember(emulation::refuse_in_capture(cudaErrorStreamCaptureUnsupported));
}

cudaError_t cudaDeviceReset() {
    const Lock lock(runtime().mutex);
    emulation::forget_captures();
    runtime().sticky = cudaSuccess;
    return cudaSuccess;
}

cudaError_t cudaDeviceSetLimit(cudaLimit, std::size_t) {
    EMULATION_API_BEGIN;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
    const Lock lock(runtime().mutex);
    *version = runtime().device.driver_version;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = kRuntimeVersion;
    return cudaSuccess;
}

cudaError_t cudaGetLastError() { return emulation::take_last_error(true); }
cudaError_t cudaPeekAtLastError() { return emulation::take_last_error(false); }

const char* cudaGetErrorName(cudaError_t error) {
    const ErrorName* found = find_error(error);
    return found != nullptr ? found->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
    const ErrorName* found = find_error(error);
    return found != nullptr ? found->text : "unrecognized error code";
}
