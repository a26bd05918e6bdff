// A file in memory, read-only, without a copy.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace lrengine {

// The bytes must not change while they are mapped (a file cut meanwhile ends the process with SIGBUS): replace model
// files by renaming new ones over them.
class MappedFile {
public:
    // Throws Error(kModelFile) for anything but a readable, non-empty regular file.
    static MappedFile open(const std::filesystem::path& path);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();

    std::span<const std::byte> bytes() const { return {data_, size_}; }

    // Asks the disk for all of it at once, ahead of what others will ask for. For files of megabytes.
    void read_ahead() const;

    // Says that a part of some mapping was read for the last time, or all of it but a little: its whole pages stop
    // counting as this process's memory. What is read after all is mapped again from the page cache, or from the disk
    // if the system has taken it from there, with its neighbours: 64 KiB, or what lies there as one piece (Linux 6.18
    // and ext4: 2 MiB of a file that was written at once).
    static void release(std::span<const std::byte> part);

private:
    MappedFile(const std::byte* data, std::size_t size) : data_(data), size_(size) {}

    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace lrengine
