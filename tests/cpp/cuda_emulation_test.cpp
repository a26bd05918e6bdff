// The CUDA emulation: right kernels give right numbers and no report, with any order of turns; wrong ones are found.
#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "cuda/emulation/emulation.h"
#include "device_buffer.h"
#include "emulation_kernels.h"
#include "harness.h"

using emulation::FaultKind;
using kernels::Mistake;

namespace emulation {

std::ostream& operator<<(std::ostream& out, FaultKind kind) { return out << name_of(kind); }

}  // namespace emulation

namespace {

std::vector<float> random_floats(std::size_t count, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(generator);
    return values;
}

void check_no_report() {
    const auto report = emulation::last_report();
    if (report.has_value()) harness::report("report", 0, report->text);
}

struct Expected {
    FaultKind kind;
    cudaError_t error;
};

const std::map<Mistake, Expected> kExpected{
    {Mistake::kNoBarrier, {FaultKind::kSharedRace, cudaErrorLaunchFailure}},
    {Mistake::kNoWarpBarrier, {FaultKind::kSharedRace, cudaErrorLaunchFailure}},
    {Mistake::kSharedWriteWrite, {FaultKind::kSharedRace, cudaErrorLaunchFailure}},
    {Mistake::kDivergentBarrier, {FaultKind::kBarrier, cudaErrorLaunchFailure}},
    {Mistake::kTwoBarriers, {FaultKind::kBarrier, cudaErrorLaunchFailure}},
    {Mistake::kAbsentLane, {FaultKind::kWarpLanes, cudaErrorLaunchFailure}},
    {Mistake::kLaneOutsideMask, {FaultKind::kWarpLanes, cudaErrorLaunchFailure}},
    {Mistake::kReadPastEnd, {FaultKind::kOutOfBounds, cudaErrorIllegalAddress}},
    {Mistake::kWritePastEnd, {FaultKind::kOutOfBounds, cudaErrorIllegalAddress}},
    {Mistake::kSharedPastEnd, {FaultKind::kOutOfBounds, cudaErrorIllegalAddress}},
    {Mistake::kMisalignedVector, {FaultKind::kMisaligned, cudaErrorMisalignedAddress}},
    {Mistake::kUseAfterFree, {FaultKind::kUseAfterFree, cudaErrorIllegalAddress}},
    {Mistake::kHostPointer, {FaultKind::kHostMemory, cudaErrorIllegalAddress}},
    {Mistake::kHostTouchesDevice, {FaultKind::kHostMemory, cudaErrorIllegalAddress}},
    {Mistake::kOthersStack, {FaultKind::kHostMemory, cudaErrorIllegalAddress}},
    {Mistake::kUnwrittenShared, {FaultKind::kUnwritten, cudaErrorLaunchFailure}},
    {Mistake::kUnwrittenDevice, {FaultKind::kUnwritten, cudaErrorLaunchFailure}},
    {Mistake::kBlocksWriteOne, {FaultKind::kGlobalRace, cudaErrorLaunchFailure}},
    {Mistake::kNoFence, {FaultKind::kGlobalRace, cudaErrorLaunchFailure}},
    {Mistake::kThreadsOfBlockDevice, {FaultKind::kGlobalRace, cudaErrorLaunchFailure}},
    {Mistake::kNoDependencyWait, {FaultKind::kGlobalRace, cudaErrorLaunchFailure}},
    {Mistake::kGridBarrierAlone, {FaultKind::kBarrier, cudaErrorLaunchFailure}},
    {Mistake::kSpinForever, {FaultKind::kTimeout, cudaErrorLaunchTimeout}},
    {Mistake::kOwnGridBarrier, {FaultKind::kTimeout, cudaErrorLaunchTimeout}},
};

// Whether a neighbour's value is missing or stale depends on whose turn came first; both are the same mistake.
bool same_mistake(Mistake mistake, FaultKind found) {
    if (mistake == Mistake::kThreadsOfBlockDevice && found == FaultKind::kUnwritten) return true;
    return found == kExpected.at(mistake).kind;
}

}  // namespace

TEST(emulation_reports_each_mistake_and_passes_its_correction) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        for (const Mistake mistake : kernels::kMistakes) {
            emulation::reset();
            emulation::set_seed(seed);
            const std::string which = "mistake " + std::to_string(static_cast<int>(mistake));
            CHECK_EQUAL(kernels::run(mistake, false), cudaSuccess);
            check_no_report();
            emulation::reset();
            emulation::set_seed(seed);
            CHECK_EQUAL(kernels::run(mistake, true), kExpected.at(mistake).error);
            const auto report = emulation::last_report();
            if (!report.has_value()) {
                harness::report(which.c_str(), 0, "nothing was reported");
            } else if (!same_mistake(mistake, report->kind)) {
                harness::report(which.c_str(), 0, "another report: " + report->text);
            }
        }
    }
    emulation::reset();
    CHECK_EQUAL(emulation::counters().allocations_alive, 0u);
}

TEST(emulation_report_names_kernel_thread_and_allocation) {
    emulation::reset();
    CHECK_EQUAL(kernels::run(Mistake::kReadPastEnd, true), cudaErrorIllegalAddress);
    const auto report = emulation::last_report();
    REQUIRE(report.has_value());
    CHECK(report->kernel.find("read_past_end") != std::string::npos);
    CHECK_EQUAL(report->thread.x, 7u);
    CHECK_EQUAL(report->bytes, 4u);
    CHECK(report->text.find("0 bytes past the end of allocation") != std::string::npos);
    emulation::reset();
    CHECK_EQUAL(kernels::run(Mistake::kTwoBarriers, true), cudaErrorLaunchFailure);
    CHECK(emulation::last_report()->text.find("broken_kernels.cu:") != std::string::npos);
    emulation::reset();
}

TEST(emulation_softmax_is_that_of_float64) {
    emulation::reset();
    for (const int n : {1, 31, 129, 1000}) {
        constexpr int kRows = 3;
        const std::vector<float> in = random_floats(static_cast<std::size_t>(kRows * n), 7);
        DeviceBuffer<float> device_in(in), device_out(in.size());
        CHECK_EQUAL(kernels::softmax(device_in.data(), device_out.data(), kRows, n, nullptr), cudaSuccess);
        const std::vector<float> out = device_out.fetch();
        for (int row = 0; row < kRows; ++row) {
            double sum = 0.0;
            for (int i = 0; i < n; ++i) sum += std::exp(static_cast<double>(in[row * n + i]));
            for (int i = 0; i < n; ++i) {
                CHECK(std::abs(out[row * n + i] - std::exp(static_cast<double>(in[row * n + i])) / sum) < 1e-6);
            }
        }
    }
    check_no_report();
}

TEST(emulation_counts_launches_and_bytes) {
    emulation::reset();
    DeviceBuffer<float> in(std::vector<float>(300, 1.0f)), out(300);
    CHECK_EQUAL(kernels::add(in.data(), out.data(), 300, 2.0f, nullptr), cudaSuccess);
    CHECK_EQUAL(emulation::counters().kernel_launches, 1u);
    CHECK_EQUAL(emulation::counters().bytes_read, 1200u);
    CHECK_EQUAL(emulation::counters().bytes_written, 1200u);
    const auto kernels = emulation::kernel_counters();
    REQUIRE(kernels.size() == 1);
    CHECK(kernels[0].kernel.find("add_kernel") != std::string::npos);
}

TEST(emulation_grid_barrier_orders_all_blocks) {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
        emulation::reset();
        emulation::set_seed(seed);
        constexpr int kCount = 1000;
        const std::vector<float> in = random_floats(kCount, 3);
        DeviceBuffer<float> device_in(in), device_out(kCount);
        CHECK_EQUAL(kernels::double_and_rotate(device_in.data(), device_out.data(), kCount), cudaSuccess);
        const std::vector<float> out = device_out.fetch();
        for (int i = 0; i < kCount; ++i) CHECK_EQUAL(out[i], in[(i + kCount / 2) % kCount] * 2.0f);
        check_no_report();
    }
}

// Twice with the same counters: the first launch leaves them ready.
TEST(emulation_relay_hands_over_with_any_number_of_blocks_at_a_time) {
    using lrengine::cuda::RelayCounters;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        for (const int parts : {1, 5, 12}) {
            emulation::reset();
            emulation::set_seed(seed);
            DeviceBuffer<RelayCounters> counters(std::vector<RelayCounters>(1));
            for (const unsigned blocks : {1u, 12u}) {
                DeviceBuffer<int> between(12), out(12);
                CHECK_EQUAL(kernels::relay(counters.data(), between.data(), out.data(), parts, blocks, true),
                            cudaSuccess);
                check_no_report();
                const std::vector<int> found = out.fetch();
                for (int p = 0; p < parts; ++p) CHECK_EQUAL(found[static_cast<std::size_t>(p)], 2 * ((p + 1) % parts));
            }
        }
    }
    emulation::reset();
}

// With some seeds: only where a block asks for its last part while another is busy with its own.
TEST(emulation_finds_a_relay_that_is_not_waited_for) {
    int found = 0;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        emulation::reset();
        emulation::set_seed(seed);
        DeviceBuffer<lrengine::cuda::RelayCounters> counters(std::vector<lrengine::cuda::RelayCounters>(1));
        DeviceBuffer<int> between(12), out(12);
        kernels::relay(counters.data(), between.data(), out.data(), 12, 12, false);
        found += emulation::last_report().has_value();
    }
    emulation::reset();
    CHECK(found >= 5);
}

TEST(emulation_draws_the_order_of_blocks_from_the_seed) {
    emulation::reset();
    std::vector<std::vector<unsigned>> orders;
    for (const std::uint64_t seed : {1, 2, 1}) {
        emulation::set_seed(seed);
        DeviceBuffer<unsigned> counter(std::vector<unsigned>(1, 0u)), out(20);
        CHECK_EQUAL(kernels::turns(counter.data(), out.data(), 20), cudaSuccess);
        orders.push_back(out.fetch());
    }
    CHECK(orders[0] != orders[1]);
    CHECK(orders[0] == orders[2]);
    std::vector<unsigned> sorted = orders[0];
    std::sort(sorted.begin(), sorted.end());
    CHECK(sorted.front() == 0 && sorted.back() == 19);
}

TEST(emulation_kernels_use_pinned_memory) {
    emulation::reset();
    void* pinned = nullptr;
    CHECK_EQUAL(cudaMallocHost(&pinned, 40), cudaSuccess);
    auto* values = static_cast<float*>(pinned);
    for (int i = 0; i < 10; ++i) values[i] = static_cast<float>(i);
    CHECK_EQUAL(kernels::add(values, values, 10, 1.0f, nullptr), cudaSuccess);
    CHECK_EQUAL(values[9], 10.0f);
    CHECK_EQUAL(kernels::add(values, values, 11, 1.0f, nullptr), cudaErrorIllegalAddress);
    CHECK_EQUAL(emulation::last_report()->kind, FaultKind::kOutOfBounds);
    CHECK_EQUAL(cudaFreeHost(pinned), cudaErrorIllegalAddress);  // freed, and the error still there
    emulation::reset();
    CHECK_EQUAL(cudaFreeHost(pinned), cudaErrorInvalidValue);
}

TEST(emulation_split_sum_with_a_last_block_is_right_in_any_order) {
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        emulation::reset();
        emulation::set_seed(seed);
        constexpr int kCount = 5000, kSplits = 9;
        DeviceBuffer<float> in(std::vector<float>(kCount, 0.5f)), partial(kSplits), out(1);
        DeviceBuffer<unsigned> counter(std::vector<unsigned>(1, 0u));
        for (int repeat = 0; repeat < 2; ++repeat) {
            CHECK_EQUAL(
                kernels::split_sum(in.data(), partial.data(), out.data(), counter.data(), kCount, kSplits, nullptr),
                cudaSuccess);
            CHECK_EQUAL(out.fetch()[0], 2500.0f);
        }
        check_no_report();
    }
}

TEST(emulation_intrinsics_do_what_the_programming_guide_says) {
    emulation::reset();
    DeviceBuffer<unsigned> out(16);
    CHECK_EQUAL(kernels::intrinsics(out.data()), cudaSuccess);
    const std::vector<unsigned> found = out.fetch();
    float half_sum;
    std::memcpy(&half_sum, &found[13], 4);
    CHECK_EQUAL(found[0], 0xaaaaaaaau);
    CHECK_EQUAL(found[1], 0x0000ff00u);
    CHECK_EQUAL(static_cast<int>(found[2]), 31 * 16 - 20 * 32);
    CHECK_EQUAL(found[3], 10u);
    CHECK_EQUAL(found[4], 9u);  // lane 1 of the segment 8 .. 15
    CHECK_EQUAL(static_cast<int>(found[5]), -5);
    CHECK_EQUAL(found[6], 14u);
    CHECK_EQUAL(found[7], 7u);
    CHECK_EQUAL(found[8], 0x77225500u);
    CHECK_EQUAL(static_cast<int>(found[9]), 10 + 1 * 4 + -1 * 5 + 2 * 6 + 3 * 7);
    CHECK_EQUAL(found[10], 0xa0000000u);
    CHECK_EQUAL(found[11], 11u);
    CHECK_EQUAL(found[12], 15u);
    CHECK_EQUAL(half_sum, 1.75f);
    CHECK_EQUAL(found[14], 2u);
    CHECK_EQUAL(found[15], 16u);
    check_no_report();
}

TEST(emulation_refuses_illegal_launches_without_breaking) {
    emulation::reset();
    CHECK_EQUAL(kernels::empty(1, 1025, 0), cudaErrorInvalidConfiguration);
    CHECK_EQUAL(kernels::empty(1, 0, 0), cudaErrorInvalidConfiguration);
    CHECK_EQUAL(kernels::empty(0, 32, 0), cudaErrorInvalidConfiguration);
    CHECK_EQUAL(kernels::empty(1, 32, 49 * 1024), cudaErrorInvalidValue);
    CHECK_EQUAL(kernels::allow_empty(228 * 1024), cudaErrorInvalidValue);
    CHECK_EQUAL(kernels::allow_empty(227 * 1024), cudaSuccess);
    CHECK_EQUAL(kernels::empty(1, 32, 227 * 1024), cudaSuccess);
    CHECK_EQUAL(kernels::empty(1000, 1024, 0, true), cudaErrorCooperativeLaunchTooLarge);
    CHECK_EQUAL(cudaGetLastError(), cudaErrorCooperativeLaunchTooLarge);
    CHECK_EQUAL(cudaGetLastError(), cudaSuccess);
    CHECK_EQUAL(kernels::empty(1, 1024, 0), cudaSuccess);
    CHECK_EQUAL(cudaMalloc(nullptr, 4), cudaErrorInvalidValue);
}

TEST(emulation_fault_sticks_until_reset) {
    emulation::reset();
    CHECK_EQUAL(kernels::run(Mistake::kHostPointer, true), cudaErrorIllegalAddress);
    void* memory = nullptr;
    CHECK_EQUAL(cudaMalloc(&memory, 4), cudaErrorIllegalAddress);
    CHECK_EQUAL(kernels::empty(1, 32, 0), cudaErrorIllegalAddress);
    CHECK_EQUAL(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    CHECK_EQUAL(cudaGetLastError(), cudaErrorIllegalAddress);
    CHECK_EQUAL(cudaGetLastError(), cudaErrorIllegalAddress);
    emulation::reset();
    CHECK_EQUAL(kernels::empty(1, 32, 0), cudaSuccess);
    emulation::set_fault_policy(emulation::FaultPolicy::kThrow);
    bool thrown = false;
    try {
        kernels::run(Mistake::kHostPointer, true);
    } catch (const emulation::Fault& fault) {
        thrown = std::string(fault.what()).find("host memory") == 0;
    }
    CHECK(thrown);
    emulation::reset();
}

TEST(emulation_injects_faults) {
    emulation::reset();
    void* memory = nullptr;
    emulation::fail_allocation(2);
    CHECK_EQUAL(cudaMalloc(&memory, 4), cudaSuccess);
    CHECK_EQUAL(cudaFree(memory), cudaSuccess);
    CHECK_EQUAL(cudaMalloc(&memory, 4), cudaErrorMemoryAllocation);
    CHECK_EQUAL(cudaMalloc(&memory, 4), cudaSuccess);
    CHECK_EQUAL(cudaFree(memory), cudaSuccess);
    CHECK_EQUAL(cudaFree(memory), cudaErrorInvalidValue);
    emulation::set_device({.memory_bytes = 1000});
    CHECK_EQUAL(cudaMalloc(&memory, 1001), cudaErrorMemoryAllocation);
    emulation::fail_launch(2, cudaErrorLaunchFailure);
    CHECK_EQUAL(kernels::empty(1, 32, 0), cudaSuccess);
    CHECK_EQUAL(kernels::empty(1, 32, 0), cudaErrorLaunchFailure);
    CHECK_EQUAL(kernels::empty(1, 32, 0), cudaErrorLaunchFailure);
    emulation::reset();
    int count = -1;
    emulation::set_device({.count = 0});
    CHECK_EQUAL(cudaGetDeviceCount(&count), cudaErrorNoDevice);
    CHECK_EQUAL(count, 0);
    emulation::set_device({.driver_version = 11000});
    CHECK_EQUAL(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
    emulation::set_device({.major = 7, .minor = 0});
    CHECK_EQUAL(kernels::empty(1, 32, 0), cudaErrorNoKernelImageForDevice);
    emulation::reset();
}

TEST(emulation_copies_check_their_direction_and_carry_what_is_written) {
    emulation::reset();
    std::vector<float> host(8, 1.0f);
    DeviceBuffer<float> one(host), other(8);
    const std::size_t bytes = 8 * sizeof(float);
    CHECK_EQUAL(cudaMemcpy(one.data(), host.data(), bytes, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    CHECK_EQUAL(cudaMemcpy(one.data(), host.data(), bytes + 1, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    CHECK(!emulation::is_written(other.data(), bytes));
    CHECK_EQUAL(cudaMemcpy(other.data(), one.data(), bytes - 3, cudaMemcpyDeviceToDevice), cudaSuccess);
    CHECK(emulation::is_written(other.data(), bytes - 3));
    CHECK(!emulation::is_written(other.data(), bytes - 2));
    emulation::mark_written(other.data(), bytes);
    CHECK(emulation::is_written(other.data(), bytes));
}

TEST(emulation_serves_several_host_threads) {
    emulation::reset();
    std::vector<std::thread> threads;
    std::vector<int> right(4, 0);
    for (std::size_t t = 0; t < right.size(); ++t) {
        threads.emplace_back([&right, t] {
            DeviceBuffer<float> in(std::vector<float>(500, static_cast<float>(t))), out(500);
            for (int repeat = 0; repeat < 20; ++repeat) kernels::add(in.data(), out.data(), 500, 1.0f, nullptr);
            const std::vector<float> found = out.fetch();
            right[t] =
                std::all_of(found.begin(), found.end(), [&](float v) { return v == static_cast<float>(t) + 1.0f; });
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(right == std::vector<int>(4, 1));
    check_no_report();
}
