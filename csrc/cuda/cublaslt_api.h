// The few types, constants and functions of cuBLASLt that we use, as its documentation gives them: the library is found
// at run time and its headers are not needed to build.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace lrengine::cuda::cublaslt {

using Status = int;  // cublasStatus_t: 0 is success
using Handle = void*;
using MatmulDesc = void*;
using MatrixLayout = void*;
using Preference = void*;

constexpr int kCompute32F = 68;          // CUBLAS_COMPUTE_32F
constexpr int kReal32F = 0;              // CUDA_R_32F
constexpr int kReal16F = 2;              // CUDA_R_16F
constexpr int kReal16BF = 14;            // CUDA_R_16BF
constexpr std::int32_t kTransposed = 1;  // CUBLAS_OP_T

enum DescAttribute : int { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8, kBiasDataType = 26 };

enum PreferenceAttribute : int {
    kMaxWorkspaceBytes = 1,
    kMinAlignmentA = 5,
    kMinAlignmentB = 6,
    kMinAlignmentC = 7,
    kMinAlignmentD = 8
};

// cublasLtEpilogue_t
constexpr std::uint32_t kEpilogueDefault = 1, kEpilogueRelu = 2, kEpilogueBias = 4, kEpilogueGelu = 32;

struct Algorithm {
    std::uint64_t data[8];
};

struct HeuristicResult {
    Algorithm algorithm;
    std::size_t workspace_bytes;
    Status state;
    float waves;
    int reserved[4];
};

struct Api {
    Status (*create)(Handle*);
    Status (*destroy)(Handle);
    Status (*desc_create)(MatmulDesc*, int compute, int scale_type);
    Status (*desc_destroy)(MatmulDesc);
    Status (*desc_set)(MatmulDesc, int attribute, const void* value, std::size_t bytes);
    Status (*layout_create)(MatrixLayout*, int type, std::uint64_t rows, std::uint64_t cols, std::int64_t leading);
    Status (*layout_destroy)(MatrixLayout);
    Status (*preference_create)(Preference*);
    Status (*preference_destroy)(Preference);
    Status (*preference_set)(Preference, int attribute, const void* value, std::size_t bytes);
    Status (*heuristic)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, Preference,
                        int wanted, HeuristicResult*, int* found);
    Status (*matmul)(Handle, MatmulDesc, const void* alpha, const void* a, MatrixLayout, const void* b, MatrixLayout,
                     const void* beta, const void* c, MatrixLayout, void* d, MatrixLayout, const Algorithm*,
                     void* workspace, std::size_t workspace_bytes, cudaStream_t);
};

}  // namespace lrengine::cuda::cublaslt
