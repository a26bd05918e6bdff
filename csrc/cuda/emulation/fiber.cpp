#include "fiber.h"

#include <sys/mman.h>

#include <array>
#include <new>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

// The switch saves what the calling convention lets a function expect unchanged; everything else is dead at a call.
#if defined(__x86_64__)
asm(R"(
    .text
    .globl emulation_switch_context
    .type emulation_switch_context, @function
emulation_switch_context:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulation_switch_context, .-emulation_switch_context
)");
#elif defined(__aarch64__)
asm(R"(
    .text
    .globl emulation_switch_context
    .type emulation_switch_context, %function
emulation_switch_context:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size emulation_switch_context, .-emulation_switch_context
)");
#endif

namespace emulation {

namespace {

constexpr std::size_t kPageBytes = 64 * 1024;  // no machine's page is larger
constexpr std::size_t kStacksPerSlab = 64;

void* aligned_top(std::byte* low, std::size_t color) { return low + kStackBytes - (color % 61) * 64; }

}  // namespace

#if defined(__x86_64__)

void* new_context(std::byte* low, std::size_t color, void (*entry)()) {
    auto* top = static_cast<void**>(aligned_top(low, color));
    *--top = nullptr;  // where `entry` would return to; keeps the stack aligned as after a call
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    return top;
}

#elif defined(__aarch64__)

void* new_context(std::byte* low, std::size_t color, void (*entry)()) {
    auto* top = static_cast<void**>(aligned_top(low, color)) - 20;
    for (int i = 0; i < 20; ++i) top[i] = nullptr;
    top[11] = reinterpret_cast<void*>(entry);  // x30
    return top;
}

#else

// Slow but portable: a context lies at the low end of its own stack. The scheduler's is wherever `save` first points.
void* new_context(std::byte* low, std::size_t color, void (*entry)()) {
    auto* context = new (low) ucontext_t;
    getcontext(context);
    context->uc_stack.ss_sp = low + sizeof(ucontext_t);
    context->uc_stack.ss_size =
        static_cast<std::size_t>(static_cast<std::byte*>(aligned_top(low, color)) - low) - sizeof(ucontext_t);
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    return context;
}

extern "C" void emulation_switch_context(void** save, void* load) {
    ucontext_t here;
    *save = &here;
    swapcontext(&here, static_cast<ucontext_t*>(load));
}

#endif

StackPool::~StackPool() {
    for (const Slab& slab : slabs_) munmap(slab.memory, slab.bytes);
}

void StackPool::add_slab() {
    constexpr std::size_t kStride = kStackBytes + kPageBytes;
    const std::size_t bytes = kStacksPerSlab * kStride;
    void* memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    slabs_.push_back({memory, bytes});
    for (std::size_t i = 0; i < kStacksPerSlab; ++i) {
        auto* guard = static_cast<std::byte*>(memory) + i * kStride;
        mprotect(guard, kPageBytes, PROT_NONE);  // may fail where mappings are few: then only the warning is lost
        stacks_.push_back(guard + kPageBytes);
    }
}

}  // namespace emulation
