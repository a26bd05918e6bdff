#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace lrengine {

namespace {

class Descriptor {
public:
    // O_NONBLOCK: opening a named pipe must not wait for a writer.
    explicit Descriptor(const std::filesystem::path& path)
        : number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
    ~Descriptor() {
        if (number_ >= 0) ::close(number_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    int number() const { return number_; }

private:
    int number_;
};

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& found) {
    fail(ErrorCode::kModelFile, path.string() + ": found " + found + ", expected a readable file");
}

std::string system_message() { return std::generic_category().message(errno); }

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
    const Descriptor descriptor(path);
    if (descriptor.number() < 0) refuse(path, system_message());
    struct stat status;
    if (::fstat(descriptor.number(), &status) != 0) refuse(path, system_message());
    if (!S_ISREG(status.st_mode)) refuse(path, S_ISDIR(status.st_mode) ? "a directory" : "something else than a file");
    if (status.st_size <= 0) refuse(path, "an empty file");
    const auto size = static_cast<std::size_t>(status.st_size);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.number(), 0);
    if (data == MAP_FAILED) refuse(path, system_message());
    ::madvise(data, size, MADV_WILLNEED);  // everything is read soon; a hint, so its failure does not matter
    return {static_cast<const std::byte*>(data), size};
}

void MappedFile::read_ahead() const {
    constexpr std::size_t kHint = std::size_t{128} << 10;  // the kernel takes no more of a hint than it reads ahead
    for (std::size_t begin = 0; begin < size_; begin += kHint) {
        ::madvise(const_cast<std::byte*>(data_ + begin), std::min(kHint, size_ - begin), MADV_WILLNEED);
    }
}

void MappedFile::release(std::span<const std::byte> part) {
    static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto begin = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(part.data()) + part.size()) / page * page;
    if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace lrengine
