#include "ops/cpu_backend.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>
#include <thread>

namespace lrengine {

namespace {

// Of blocks, and room for a block's size before it.
constexpr std::size_t kAlignment = 64;
// Nothing this large fits an address space of 47 bits: a size gone wrong, not a need.
constexpr std::size_t kAbsurdSize = std::size_t{1} << 46;

struct InstructionSet {
    const char* name;
    bool supported;
    const CpuKernels& (*kernels)();
};

#if defined(__x86_64__)
// Conversions from float16 in hardware; not every compiler's __builtin_cpu_supports() knows the name.
bool has_f16c() {
    constexpr unsigned kF16c = 1u << 29;
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & kF16c) != 0;
}

// For the same reason.
bool has_avx_vnni() {
    constexpr unsigned kAvxVnni = 1u << 4;
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvxVnni) != 0;
}
#endif

// Best first.
std::span<const InstructionSet> instruction_sets() {
#if defined(__x86_64__)
    static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    static const bool avx512_vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    static const InstructionSet sets[] = {{"avx512_vnni", avx512_vnni, avx512_vnni_kernels},
                                          {"avx512", avx512, avx512_kernels},
                                          {"avx2_vnni", avx2 && has_avx_vnni(), avx2_vnni_kernels},
                                          {"avx2", avx2, avx2_kernels},
                                          {"portable", true, portable_kernels}};
#elif defined(__aarch64__)
    static const InstructionSet sets[] = {{"neon", true, neon_kernels}, {"portable", true, portable_kernels}};
#else
    static const InstructionSet sets[] = {{"portable", true, portable_kernels}};
#endif
    return sets;
}

const InstructionSet& chosen_instruction_set() {
    const char* wanted = std::getenv("LRENGINE_ISA");
    const bool any = wanted == nullptr || *wanted == '\0';
    for (const InstructionSet& set : instruction_sets()) {
        if (any ? set.supported : std::string_view(wanted) == set.name) {
            if (set.supported) return set;
            fail(ErrorCode::kUnsupported, std::string("LRENGINE_ISA: this processor does not have ") + wanted);
        }
    }
    std::string names;
    for (const InstructionSet& set : instruction_sets()) names += (names.empty() ? "" : ", ") + std::string(set.name);
    fail(ErrorCode::kInvalidArgument, std::string("LRENGINE_ISA: found \"") + wanted + "\", expected one of " + names);
}

// Processors this process may run on, and no more than its control group's share of time (a container on a large host).
int available_threads() {
    const auto processors = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    std::ifstream limits("/sys/fs/cgroup/cpu.max");  // "max 100000", or microseconds of each period
    double quota = 0, period = 0;
    if (!(limits >> quota >> period) || quota <= 0 || period <= 0) return processors;
    return std::clamp(static_cast<int>(std::ceil(quota / period)), 1, processors);
}

}  // namespace

void* CpuBackend::allocate(std::size_t bytes) {
    BlockCache::Block block;
    if (bytes < kAbsurdSize) {
        // Pages of a large block are committed by the system when they are first written.
        const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
        block = kept_.take(rounded);
        if (block.memory == nullptr) block = {std::aligned_alloc(kAlignment, rounded), rounded};
        if (block.memory == nullptr && kept_.clear()) block.memory = std::aligned_alloc(kAlignment, rounded);
    }
    if (block.memory == nullptr)
        fail(ErrorCode::kOutOfMemory, "cpu: no memory for " + std::to_string(bytes) + " bytes");
    std::memcpy(block.memory, &block.size, sizeof block.size);
    return static_cast<char*>(block.memory) + kAlignment;
}

void CpuBackend::deallocate(void* memory) noexcept {
    if (memory == nullptr) return;
    BlockCache::Block block;
    block.memory = static_cast<char*>(memory) - kAlignment;
    std::memcpy(&block.size, block.memory, sizeof block.size);
    if (!kept_.keep(block)) std::free(block.memory);
}

void CpuBackend::copy_to_device(void* destination, const void* source, std::size_t bytes) {
    if (bytes > 0) std::memcpy(destination, source, bytes);
}

void CpuBackend::copy_to_host(void* destination, const void* source, std::size_t bytes) {
    if (bytes > 0) std::memcpy(destination, source, bytes);
}

std::string cpu_isa() { return chosen_instruction_set().name; }

std::unique_ptr<Backend> make_cpu_backend(int threads) {
    if (threads < 0) fail(ErrorCode::kInvalidArgument, "threads: found " + std::to_string(threads) + ", expected >= 0");
    const int count = threads == 0 ? available_threads() : threads;
    return std::make_unique<CpuBackend>(count, chosen_instruction_set().kernels());
}

}  // namespace lrengine
