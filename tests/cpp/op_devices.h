// Which device the op tests run on, and the activation types that they are run with there.
//
// LRENGINE_TEST_DEVICE=cpu (the default) or cuda. A test body is the same for all; OP_TEST registers it once for each
// type: float32 on the CPU; float32, float16 and bfloat16 on CUDA. CPU_TEST is for what only the CPU promises.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "harness.h"
#include "ops/backend.h"
#include "runtime/backend_library.h"

namespace op_testing {

using namespace lrengine;

inline bool on_cuda() {
    const char* device = std::getenv("LRENGINE_TEST_DEVICE");
    return device != nullptr && std::string(device).starts_with("cuda");
}

inline std::vector<DType> activation_types() {
    if (on_cuda()) return {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
    return {DType::kFloat32};
}

// The type of the matrices of the test that is running.
inline DType& activation_type() {
    static DType type = DType::kFloat32;
    return type;
}

// Calls of backend() so far: what was read from the device before the last of them may be old.
inline std::int64_t& backend_calls() {
    static std::int64_t calls = 0;
    return calls;
}

inline Backend& cpu_backend(int threads) {
    static const std::unique_ptr<Backend> one = make_cpu_backend(1), two = make_cpu_backend(2),
                                          five = make_cpu_backend(5);
    return threads == 1 ? *one : threads == 2 ? *two : *five;
}

inline Backend& cuda_backend() {
    static const std::unique_ptr<Backend> cuda = open_cuda(std::getenv("LRENGINE_TEST_DEVICE"));
    return *cuda;
}

// The backend under test. On the CPU LRENGINE_ISA chooses its kernels; a GPU has no threads to choose.
inline Backend& backend(int threads = 2) {
    ++backend_calls();
    return on_cuda() ? cuda_backend() : cpu_backend(threads);
}

// Numbers of threads that must make no difference.
inline std::vector<int> thread_counts() {
    if (on_cuda()) return {1};
    return {1, 2, 5};
}

// What one rounding to the type may cost, relative. Inputs are exact (the expected numbers come from what is stored)
// and ops compute in float32, so this is all that a narrow type adds.
inline double rounding(DType type) {
    if (type == DType::kFloat16) return 0x1p-10;
    return type == DType::kBFloat16 ? 0x1p-7 : 0.0;
}

struct OpRegistrar {
    OpRegistrar(const std::string& name, void (*body)()) {
        for (const DType type : activation_types()) {
            const std::string label = on_cuda() ? name + "_" + std::string(name_of(type)) : name;
            harness::cases().push_back({label, [=] {
                                            activation_type() = type;
                                            body();
                                        }});
        }
    }
};

struct CpuRegistrar {
    CpuRegistrar(const std::string& name, void (*body)(), const char* /*reason*/) {
        if (!on_cuda()) harness::cases().push_back({name, body});
    }
};

}  // namespace op_testing

#define OP_TEST(name)                                                          \
    static void test_##name();                                                 \
    static const op_testing::OpRegistrar registrar_##name(#name, test_##name); \
    static void test_##name()

// `reason`: why no other device is asked for it.
#define CPU_TEST(name, reason)                                                          \
    static void test_##name();                                                          \
    static const op_testing::CpuRegistrar registrar_##name(#name, test_##name, reason); \
    static void test_##name()
