// Model directories written by tests, whole or broken on purpose.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace model_files {

// A directory that is gone when the test ends.
class TemporaryDirectory {
public:
    TemporaryDirectory() {
        static std::atomic<int> count{0};
        path_ = std::filesystem::temp_directory_path() /
                ("lrengine_test_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
        std::filesystem::create_directories(path_);
    }
    ~TemporaryDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

    const std::filesystem::path& path() const { return path_; }

    void write(const std::string& name, const std::string& content) const {
        // A new file: a file cut to nothing and written again is flushed to the disk by ext4 when it is closed.
        std::filesystem::remove(path_ / name);
        std::ofstream(path_ / name, std::ios::binary | std::ios::trunc) << content;
    }

private:
    std::filesystem::path path_;
};

struct Tensor {
    std::string name;
    std::string dtype;  // as the file spells it: "F32"
    std::vector<std::int64_t> shape;
    std::string bytes;
};

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
    std::string bytes(values.size() * sizeof(T), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

inline Tensor float_tensor(const std::string& name, std::vector<std::int64_t> shape, const std::vector<float>& values) {
    return {name, "F32", std::move(shape), bytes_of(values)};
}

// Header and data as they are given, so that either can lie. `length`: what the file claims its header takes.
inline std::string safetensors_bytes(const std::string& header, const std::string& data, std::uint64_t length) {
    return bytes_of(std::vector<std::uint64_t>{length}) + header + data;
}

inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
    return safetensors_bytes(header, data, header.size());
}

inline std::string list_text(const std::vector<std::int64_t>& numbers) {
    std::string text = "[";
    for (const std::int64_t number : numbers) text.append(text.size() > 1 ? "," : "").append(std::to_string(number));
    return text.append("]");
}

// A correct file, its header padded with spaces so that the data begins at a multiple of 8 plus `shift`.
inline std::string safetensors_bytes(const std::vector<Tensor>& tensors, std::size_t shift = 0) {
    std::string header = "{", data;
    for (const Tensor& tensor : tensors) {
        const auto begin = static_cast<std::int64_t>(data.size());
        data += tensor.bytes;
        header += (header.size() > 1 ? ",\"" : "\"") + tensor.name + "\":{\"dtype\":\"" + tensor.dtype +
                  "\",\"shape\":" + list_text(tensor.shape) +
                  ",\"data_offsets\":" + list_text({begin, static_cast<std::int64_t>(data.size())}) + "}";
    }
    header += "}";
    while (header.size() % 8 != shift) header += ' ';
    return safetensors_bytes(header, data);
}

}  // namespace model_files
