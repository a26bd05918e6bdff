// Memory and the choice of an instruction set.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "op_testing.h"
#include "ops/cpu_backend.h"

namespace {

using namespace op_testing;

// The environment of one test.
class WithIsa {
public:
    explicit WithIsa(const char* name) {
        const char* before = std::getenv("LRENGINE_ISA");
        before_ = before != nullptr ? before : "";
        setenv("LRENGINE_ISA", name, 1);
    }
    ~WithIsa() { setenv("LRENGINE_ISA", before_.c_str(), 1); }

private:
    std::string before_;
};

// Those of the processors that this was built for, the best last.
#if defined(__x86_64__)
constexpr std::array kInstructionSets = {"portable", "avx2", "avx2_vnni", "avx512", "avx512_vnni"};
#elif defined(__aarch64__)
constexpr std::array kInstructionSets = {"portable", "neon"};
#else
constexpr std::array kInstructionSets = {"portable"};
#endif

#if defined(__x86_64__)
// What the kernel says about the processor.
std::vector<std::string> instruction_sets_of_this_processor() {
    std::ifstream file("/proc/cpuinfo");
    std::string line;
    std::set<std::string> flags;
    while (flags.empty() && std::getline(file, line)) {
        if (line.rfind("flags", 0) != 0) continue;
        std::istringstream words(line.substr(line.find(':') + 1));
        flags.insert(std::istream_iterator<std::string>(words), {});
    }
    const auto all = [&](std::initializer_list<const char*> names) {
        return std::all_of(names.begin(), names.end(), [&](const char* name) { return flags.count(name) == 1; });
    };
    std::vector<std::string> sets = {"portable"};
    if (!all({"avx2", "fma", "f16c"})) return sets;
    sets.push_back("avx2");
    if (all({"avx_vnni"})) sets.push_back("avx2_vnni");
    if (!all({"avx512f", "avx512bw", "avx512dq", "avx512vl"})) return sets;
    sets.push_back("avx512");
    if (all({"avx512_vnni"})) sets.push_back("avx512_vnni");
    return sets;
}
#else
std::vector<std::string> instruction_sets_of_this_processor() {
    return {kInstructionSets.begin(), kInstructionSets.end()};
}
#endif

int refused = 0;  // of the next calls of aligned_alloc()

}  // namespace

// What the CPU's backend takes.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
    void* memory = nullptr;
    if (refused > 0) {
        --refused;
    } else if (posix_memalign(&memory, alignment, bytes) != 0) {
        memory = nullptr;
    }
    return memory;
}

CPU_TEST(backend_gives_large_blocks_again, "a GPU's memory is its allocator's") {
#if LRENGINE_ADDRESS_SANITIZER
    return;  // which sees uses of what was given back only if nobody else has it
#endif
    constexpr std::size_t kBytes = std::size_t{5} << 20;
    void* first = backend().allocate(kBytes);
    backend().deallocate(first);
    void* second = backend().allocate(kBytes);
    CHECK(second == first);
    CHECK(reinterpret_cast<std::uintptr_t>(second) % 64 == 0);
    void* other = backend().allocate(kBytes);
    CHECK(other != second);
    backend().deallocate(second);
    backend().deallocate(other);
    backend().deallocate(nullptr);
}

CPU_TEST(backend_gives_up_what_it_keeps_before_memory_is_short, "a GPU's memory is its allocator's") {
#if LRENGINE_ADDRESS_SANITIZER
    return;  // nothing is kept
#endif
    const auto fresh = make_cpu_backend(1);
    refused = 1;
    CHECK_ERROR(fresh->allocate(100), ErrorCode::kOutOfMemory, "100 bytes");  // nothing to give up
    fresh->deallocate(fresh->allocate(std::size_t{5} << 20));
    refused = 1;
    fresh->deallocate(fresh->allocate(100));
    fresh->deallocate(fresh->allocate(std::size_t{5} << 20));
    refused = 2;
    CHECK_ERROR(fresh->allocate(100), ErrorCode::kOutOfMemory, "100 bytes");
    CHECK_EQUAL(refused, 0);
}

OP_TEST(allocations_are_aligned_and_absurd_ones_are_errors) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{5} << 20}) {
        void* memory = backend().allocate(bytes);
        CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(memory) % 64, 0u);
        const std::vector<char> ones(bytes, 1), zeros(bytes, 0);
        std::vector<char> back = zeros;
        backend().copy_to_device(memory, ones.data(), bytes);
        backend().copy_to_host(back.data(), memory, bytes);
        CHECK(back == ones);
        backend().deallocate(memory);
    }
    CHECK_ERROR(backend().allocate(std::size_t{1} << 50), ErrorCode::kOutOfMemory, "1125899906842624");
    CHECK_ERROR(backend().allocate(~std::size_t{0}), ErrorCode::kOutOfMemory, "memory");
}

CPU_TEST(large_allocations_cost_nothing_until_touched, "a GPU's memory is what it has") {
    void* memory = backend().allocate(std::size_t{4} << 30);
    static_cast<char*>(memory)[0] = 1;
    backend().deallocate(memory);
}

CPU_TEST(instruction_set_is_chosen_by_the_environment, "of the CPU") {
    {
        const WithIsa isa("portable");
        CHECK_EQUAL(cpu_isa(), std::string("portable"));
        CHECK_EQUAL(make_cpu_backend(1)->device(), std::string("cpu"));
    }
    {
        const WithIsa isa("sse9");
        CHECK_ERROR(cpu_isa(), ErrorCode::kInvalidArgument, "sse9");
        CHECK_ERROR(make_cpu_backend(1), ErrorCode::kInvalidArgument, "expected one of");
    }
    const std::vector<std::string> available = instruction_sets_of_this_processor();
    for (const std::string name : kInstructionSets) {
        const WithIsa isa(name.c_str());
        if (std::count(available.begin(), available.end(), name) == 1) {
            CHECK_EQUAL(cpu_isa(), name);
        } else {
            CHECK_ERROR(cpu_isa(), ErrorCode::kUnsupported, name);
        }
    }
    const WithIsa isa("");
    CHECK_EQUAL(cpu_isa(), available.back());
}

CPU_TEST(threads_must_be_a_number_that_makes_sense, "of the CPU") {
    CHECK_ERROR(make_cpu_backend(-1), ErrorCode::kInvalidArgument, "threads");
    CHECK(make_cpu_backend(0) != nullptr);
}

OP_TEST(copies_move_bytes) {
    const int source = 17;
    int destination = 0;
    void* middle = backend().allocate(sizeof source);
    backend().copy_to_device(middle, &source, sizeof source);
    backend().copy_to_host(&destination, middle, sizeof source);
    backend().copy_to_host(nullptr, nullptr, 0);
    backend().deallocate(middle);
    CHECK_EQUAL(destination, 17);
}
