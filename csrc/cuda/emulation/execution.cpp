#include "execution.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "runtime.h"

namespace emulation {

namespace {

constexpr std::size_t kStaticLimit = 48 * 1024;
constexpr std::size_t kRedZone = 64;

std::size_t round_up(std::size_t value, std::size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

thread_local Run* running = nullptr;

std::uint32_t next_epoch() {
    static std::uint32_t last = 0;
    return ++last;
}

void SharedArena::Release::operator()(std::byte* memory) const { ::operator delete[](memory, std::align_val_t{256}); }

SharedArena::SharedArena()
    : memory_(static_cast<std::byte*>(::operator new[](kArenaBytes, std::align_val_t{256}))),
      state_(kArenaBytes / 4),
      cells_(std::make_unique<SharedCell[]>(kArenaBytes / 4)) {}

void SharedArena::begin_block(std::size_t dynamic_bytes) {
    std::memset(state_.data(), 0, used_ / 4 + 1);
    std::memset(memory_.get(), 0xff, used_);  // NaN in every format: what a block before wrote must not help
    variables_.clear();
    dynamic_bytes_ = dynamic_bytes;
    static_bytes_ = 0;
    used_ = round_up(dynamic_bytes, 16);
    open(0, dynamic_bytes);
}

void SharedArena::open(std::size_t offset, std::size_t bytes) {
    std::memset(state_.data() + offset / 4, kAddressable, bytes / 4);
    if (bytes % 4 != 0) state_[(offset + bytes) / 4] = byte_mask(0, bytes % 4);
}

std::size_t SharedArena::variable(const void* site, std::size_t bytes, std::size_t alignment) {
    for (const Variable& known : variables_) {
        if (known.site == site) return known.offset;
    }
    static_bytes_ += round_up(bytes, 16);
    if (static_bytes_ > kStaticLimit) {
        kernel_fault(FaultKind::kSharedSize, cudaErrorLaunchFailure,
                     std::to_string(static_bytes_) + " bytes of static shared memory, more than 48 KiB");
    }
    const std::size_t offset = round_up(used_ + kRedZone, alignment < 16 ? 16 : alignment);
    used_ = offset + round_up(bytes, 16);
    open(offset, bytes);
    variables_.push_back({site, offset, bytes});
    return offset;
}

std::string SharedArena::describe(std::size_t offset) const {
    const auto number = [](std::size_t value) { return std::to_string(value); };
    for (const Variable& known : variables_) {
        if (offset + kRedZone >= known.offset && offset < known.offset) {
            return number(known.offset - offset) + " bytes before a static variable of " + number(known.bytes) +
                   " bytes";
        }
        if (offset >= known.offset && offset < known.offset + known.bytes) {
            return number(offset - known.offset) + " bytes into a static variable of " + number(known.bytes) + " bytes";
        }
        if (offset >= known.offset && offset < known.offset + known.bytes + kRedZone) {
            return number(offset - known.offset - known.bytes) + " bytes past the end of a static variable of " +
                   number(known.bytes) + " bytes";
        }
    }
    return number(offset) + " bytes into dynamic shared memory of " + number(dynamic_bytes_) + " bytes";
}

std::string describe_where(const std::source_location& where) {
    const std::string path = where.file_name();
    return path.substr(path.rfind('/') + 1) + ":" + std::to_string(where.line());
}

std::string describe_thread(const Thread& thread) {
    const auto triple = [](const uint3& v) {
        return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
    };
    return "block " + triple(thread.block->index) + " thread " + triple(thread.index);
}

void kernel_fault(FaultKind kind, cudaError_t error, const std::string& what, std::uintptr_t address,
                  std::size_t bytes) {
    Run& run = *running;
    Report report{kind, error, {}, run.kernel, {}, {}, address, bytes};
    report.text = std::string(name_of(kind)) + ": " + what;
    if (run.thread != nullptr) {
        report.block = run.thread->block->index;
        report.thread = run.thread->index;
        report.text += "; " + describe_thread(*run.thread);
    }
    report.text += " of " + run.kernel;
    record_fault(std::move(report));
    run.failed = true;
    for (;;) give_up_turn(run);  // never resumed
}

void* static_shared(const void* site, std::size_t bytes, std::size_t alignment) {
    SharedArena& arena = running->block->shared;
    return arena.memory() + arena.variable(site, bytes, alignment);
}

void* dynamic_shared() { return running->block->shared.memory(); }

}  // namespace emulation
