// What a caller of the C interface hands over, drawn from a fuzzer's input: each struct, text and array in an
// allocation of exactly its size, so that a read past one is a read past an allocation.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <vector>

#include "fuzz.h"
#include "lrengine/lrengine.h"

namespace fuzz {

// Mostly the size that the library knows; otherwise that of another version's struct, or none that a struct can have.
inline std::size_t some_struct_size(Bytes& input, std::size_t known) {
    const std::uint8_t choice = input.take<std::uint8_t>();
    if (choice < 160) return known;
    if (choice < 240) return std::size_t{8} * (choice - 160);
    const std::size_t odd[] = {0, 4, known + 4, 4096, 4104, std::numeric_limits<std::size_t>::max()};
    return odd[choice % std::size(odd)];
}

// `count` structs one after the other, all of one version: cut, or with members at their ends that the library does not
// know.
template <typename T>
class Structs {
public:
    Structs(const std::vector<T>& values, Bytes& input) : Structs(values, some_struct_size(input, sizeof(T)), input) {}
    Structs(const std::vector<T>& values, std::size_t size, Bytes& input) : size_(size) {
        const char tail = size_ > sizeof(T) && input.take<std::uint8_t>() >= 192 ? 1 : 0;
        // A size that must be refused needs no memory but for itself.
        const std::size_t stride = std::max(size_ <= 4096 ? size_ : sizeof(T), sizeof(std::size_t));
        memory_ = std::make_unique<char[]>(stride * values.size());
        std::memset(memory_.get(), tail, stride * values.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
            std::memcpy(memory_.get() + i * stride, &values[i], std::min(stride, sizeof(T)));
            std::memcpy(memory_.get() + i * stride, &size_, sizeof size_);
        }
    }

    T* get() { return reinterpret_cast<T*>(memory_.get()); }
    std::size_t size() const { return size_; }

private:
    std::size_t size_;
    std::unique_ptr<char[]> memory_;
};

// Texts and ids that live until the call is over.
class Caller {
public:
    explicit Caller(Bytes& input) : input_(input) {}

    // Without a 0 at its end.
    std::string_view text() {
        const std::string_view given = input_.text(40);
        std::vector<char>& kept = texts_.emplace_back(given.begin(), given.end());
        kept.shrink_to_fit();
        return {kept.data() == nullptr ? "" : kept.data(), kept.size()};
    }
    const char* terminated() {
        const std::string_view given = input_.text(40);
        std::vector<char>& kept = texts_.emplace_back(given.begin(), given.end());
        kept.push_back('\0');
        kept.shrink_to_fit();
        return kept.data();
    }
    const std::vector<std::int32_t>& ids() {
        std::vector<std::int32_t>& kept = ids_.emplace_back(input_.index(9));
        for (std::int32_t& id : kept) {
            id = input_.take<std::int8_t>();
            if (id == 127) id = input_.take<std::int32_t>();
        }
        return kept;
    }
    // counted: whether the piece's text_bytes reach the library; if not, its text is one that ends with a 0.
    lrengine_piece piece(bool counted = true) {
        lrengine_piece piece = LRENGINE_PIECE_INIT;
        const std::uint8_t form = input_.take<std::uint8_t>() % 16;
        if (form < 6 || form == 15) {
            const std::vector<std::int32_t>& given = ids();
            piece.ids = given.data();
            piece.id_count = given.size();
        }
        if (form == 6) piece.id_count = 3;  // of nothing
        const bool sized = form >= 10 && form < 13;
        if ((form >= 7 && form < 10) || (sized && !counted)) piece.text = terminated();
        if (sized && counted) {
            const std::string_view given = text();
            piece.text = given.data();
            piece.text_bytes = given.size();
        }
        if (form == 15) piece.text = terminated();  // both
        return piece;
    }

private:
    Bytes& input_;
    std::deque<std::vector<char>> texts_;
    std::deque<std::vector<std::int32_t>> ids_;
};

}  // namespace fuzz
