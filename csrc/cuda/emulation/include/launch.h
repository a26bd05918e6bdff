// Launching, and the functions that take a kernel. A kernel and the values of its arguments become one KernelCall,
// which runs at once or is recorded by a capturing stream.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda_runtime_api.h"

namespace emulation {

using ErasedKernel = void (*)();

// Arguments lie at `offsets` of `values`, each aligned for any type.
struct KernelCall {
    ErasedKernel kernel = nullptr;
    void (*invoke)(ErasedKernel kernel, void* const* arguments) = nullptr;
    std::vector<std::max_align_t> values;
    std::vector<std::size_t> offsets;  // in units of std::max_align_t

    template <typename T>
    void push(const T& value) {
        static_assert(std::is_trivially_copyable_v<T>, "a kernel's arguments are copied as bytes");
        static_assert(alignof(T) <= alignof(std::max_align_t));
        const std::size_t offset = values.size();
        offsets.push_back(offset);
        values.resize(offset + (sizeof(T) + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t));
        std::memcpy(static_cast<void*>(values.data() + offset), &value, sizeof(T));
    }
};

// The arguments come from host memory, which kernels must not touch: this reads them outside of what is checked.
template <typename... Parameters>
struct Invoker {
    static void invoke(ErasedKernel kernel, void* const* arguments) {
        spread(kernel, arguments, std::index_sequence_for<Parameters...>());
    }
    template <std::size_t... I>
    [[gnu::no_sanitize("thread")]] static void spread(ErasedKernel kernel, [[maybe_unused]] void* const* arguments,
                                                      std::index_sequence<I...>) {
        reinterpret_cast<void (*)(Parameters...)>(kernel)(
            *static_cast<std::remove_cvref_t<Parameters>*>(arguments[I])...);
    }
};

cudaError_t launch(const cudaLaunchConfig_t& config, const KernelCall& call);
cudaError_t occupancy(int* blocks, ErasedKernel kernel, int threads, std::size_t dynamic_bytes);
cudaError_t set_function_attribute(ErasedKernel kernel, cudaFuncAttribute attribute, int value);

}  // namespace emulation

template <typename... Expected, typename... Actual>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...), Actual&&... arguments) {
    static_assert(sizeof...(Expected) == sizeof...(Actual), "as many arguments as the kernel has parameters");
    if (config == nullptr || kernel == nullptr) return cudaErrorInvalidValue;
    emulation::KernelCall call;
    call.kernel = reinterpret_cast<emulation::ErasedKernel>(kernel);
    call.invoke = emulation::Invoker<Expected...>::invoke;
    (call.push(static_cast<std::remove_cvref_t<Expected>>(std::forward<Actual>(arguments))), ...);
    return emulation::launch(*config, call);
}

template <typename... Parameters>
cudaError_t cudaLaunchCooperativeKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void** arguments,
                                        std::size_t dynamic_bytes = 0, cudaStream_t stream = nullptr) {
    if (kernel == nullptr || (arguments == nullptr && sizeof...(Parameters) > 0)) return cudaErrorInvalidValue;
    emulation::KernelCall call;
    call.kernel = reinterpret_cast<emulation::ErasedKernel>(kernel);
    call.invoke = emulation::Invoker<Parameters...>::invoke;
    [[maybe_unused]] std::size_t next = 0;
    (call.push(*static_cast<std::remove_cvref_t<Parameters>*>(arguments[next++])), ...);
    cudaLaunchAttribute cooperative{};
    cooperative.id = cudaLaunchAttributeCooperative;
    cooperative.val.cooperative = 1;
    return emulation::launch({grid, block, dynamic_bytes, stream, &cooperative, 1}, call);
}

template <typename... Parameters>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(Parameters...), int threads,
                                                          std::size_t dynamic_bytes) {
    return emulation::occupancy(blocks, reinterpret_cast<emulation::ErasedKernel>(kernel), threads, dynamic_bytes);
}

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute, int value) {
    return emulation::set_function_attribute(reinterpret_cast<emulation::ErasedKernel>(kernel), attribute, value);
}

// The same by address, as the C interface takes a kernel.
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int threads,
                                                                 std::size_t dynamic_bytes) {
    return emulation::occupancy(blocks, reinterpret_cast<emulation::ErasedKernel>(const_cast<void*>(kernel)), threads,
                                dynamic_bytes);
}

inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    return emulation::set_function_attribute(reinterpret_cast<emulation::ErasedKernel>(const_cast<void*>(kernel)),
                                             attribute, value);
}

// A __constant__ variable is the program's own memory.
template <typename T>
cudaError_t cudaMemcpyToSymbol(const T& symbol, const void* source, std::size_t bytes, std::size_t offset = 0) {
    if (offset > sizeof(T) || bytes > sizeof(T) - offset) return cudaErrorInvalidValue;
    std::memcpy(reinterpret_cast<char*>(&const_cast<T&>(symbol)) + offset, source, bytes);
    return cudaSuccess;
}
