#include "core/arena.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "core/error.h"
#include "ops/backend.h"

namespace lrengine {

namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kSmallestBlock = std::size_t{1} << 20;
constexpr std::size_t kLargestRequest = std::numeric_limits<std::size_t>::max() / 4;

std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

// Four sizes an octave: requests that grow little by little (sources of 100, 101, ... tokens) meet few new blocks, and
// no block is more than a quarter too large.
std::size_t block_size(std::size_t bytes) {
    if (bytes <= kSmallestBlock) return kSmallestBlock;
    return round_up(bytes, std::bit_floor(bytes) / 4);
}

#ifdef LRENGINE_POISON
// All bits set is a NaN in float32, float16 and bfloat16, and -1 as an index.
void poison(Backend& backend, void* memory, std::size_t bytes) {
    const std::vector<unsigned char> filler(bytes, 0xff);
    backend.copy_to_device(memory, filler.data(), bytes);
}
#endif

}  // namespace

Arena::Arena(Backend& backend) : backend_(backend) {}

Arena::~Arena() {
    backend_.memory_use().subtract(reserved_bytes());
    for (const Block& block : blocks_) backend_.deallocate(block.data);
}

void* Arena::allocate(std::size_t bytes) {
    if (bytes > kLargestRequest) fail(ErrorCode::kOutOfMemory, "scratch memory: a request of more bytes than exist");
    const std::size_t wanted = round_up(std::max<std::size_t>(bytes, 1), kAlignment);
    while (block_ < blocks_.size() && blocks_[block_].size - used_ < wanted) {
        ++block_;
        used_ = 0;
    }
    if (block_ == blocks_.size()) {
        blocks_.reserve(blocks_.size() + 1);  // so that a block that was got cannot be lost
        const std::size_t size = block_size(wanted);
        blocks_.push_back({backend_.allocate(size), size});
        backend_.memory_use().add(size);
        used_ = 0;
    }
    void* memory = static_cast<char*>(blocks_[block_].data) + used_;
    used_ += wanted;
#ifdef LRENGINE_POISON
    poison(backend_, memory, wanted);
#endif
    return memory;
}

Matrix Arena::matrix(std::int64_t rows, std::int64_t cols, DType dtype) {
    if (rows < 0 || cols < 0) fail(ErrorCode::kInternal, "scratch memory: a matrix of negative size");
    std::size_t bytes = 0;
    if (__builtin_mul_overflow(static_cast<std::size_t>(rows), static_cast<std::size_t>(cols), &bytes) ||
        __builtin_mul_overflow(bytes, size_of(dtype), &bytes)) {
        fail(ErrorCode::kOutOfMemory, "scratch memory: a matrix of more bytes than exist");
    }
    return {allocate(bytes), dtype, rows, cols, cols};
}

Arena::Mark Arena::mark() const { return {block_, used_}; }

void Arena::reset_to(Mark mark) {
    block_ = mark.block;
    used_ = mark.used;
}

void Arena::describe(std::vector<std::uint64_t>& words) const {
    for (const Block& block : blocks_) {
        words.push_back(reinterpret_cast<std::uintptr_t>(block.data));
        words.push_back(block.size);
    }
    words.push_back(block_);
    words.push_back(used_);
}

std::size_t Arena::reserved_bytes() const {
    std::size_t total = 0;
    for (const Block& block : blocks_) total += block.size;
    return total;
}

}  // namespace lrengine
