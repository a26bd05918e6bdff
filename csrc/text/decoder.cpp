#include "text/decoder.h"

#include <charconv>
#include <functional>
#include <optional>
#include <utility>

#include "text/byte_level.h"
#include "text/growth.h"
#include "text/metaspace.h"
#include "text/replace.h"
#include "text/unicode.h"

namespace lrengine::text {

namespace {

using Pieces = std::vector<std::string>;

class Change final : public Decoder {
public:
    explicit Change(std::function<void(Pieces&)> change) : change_(std::move(change)) {}
    void apply(Pieces& pieces, std::size_t) const override { change_(pieces); }

private:
    std::function<void(Pieces&)> change_;
};

class Sequence final : public Decoder {
public:
    explicit Sequence(const JsonValue& description) {
        for (const JsonValue& part : description.at("decoders").elements()) parts_.push_back(read_decoder(part));
    }
    void apply(Pieces& pieces, std::size_t most) const override {
        for (const auto& part : parts_) part->apply(pieces, most);
    }

private:
    std::vector<std::unique_ptr<Decoder>> parts_;
};

class ReplacePieces final : public Decoder {
public:
    explicit ReplacePieces(const JsonValue& description) : replace_(description) {}
    void apply(Pieces& pieces, std::size_t most) const override {
        for (std::string& piece : pieces) {
            piece = replace_.apply(piece, most);
            check_growth(piece.size(), most);
            most -= piece.size();
        }
    }

private:
    Replace replace_;
};

void fuse(Pieces& pieces) {
    std::string all;
    for (const std::string& piece : pieces) all += piece;
    pieces.assign(1, std::move(all));
}

// Pieces of letters for bytes become one text; a piece with another character in it stands as it is.
void join_byte_letters(Pieces& pieces) {
    std::string bytes;
    for (const std::string& piece : pieces) bytes += bytes_of_letters(piece).value_or(piece);
    pieces.assign(1, replace_malformed(bytes));
}

// The byte of "<0x1F>".
std::optional<char> named_byte(std::string_view piece) {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return std::nullopt;
    if (piece[3] == '+') {  // Rust reads a sign
        const std::string digits = {'0', piece[4]};
        return named_byte("<0x" + digits + ">");
    }
    unsigned value = 0;
    const auto [end, error] = std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
    if (error != std::errc() || end != piece.data() + 5) return std::nullopt;
    return static_cast<char>(value);
}

// Runs of named bytes become text; a run that is not UTF-8 becomes one U+FFFD a byte.
void join_named_bytes(Pieces& pieces) {
    Pieces result;
    std::string run;
    const auto flush = [&] {
        if (is_well_formed(run)) {
            if (!run.empty()) result.push_back(run);
        } else {
            for (std::size_t i = 0; i < run.size(); ++i) {
                result.emplace_back();
                append_character(result.back(), kReplacementCharacter);
            }
        }
        run.clear();
    };
    for (std::string& piece : pieces) {
        if (const auto byte = named_byte(piece)) {
            run.push_back(*byte);
            continue;
        }
        flush();
        result.push_back(std::move(piece));
    }
    flush();
    pieces = std::move(result);
}

// Takes up to `start` and `stop` times a character from a piece's ends.
class Strip {
public:
    explicit Strip(const JsonValue& description)
        : content_(description.at("content").text()),
          start_(description.at("start").integer(0, INT32_MAX)),
          stop_(description.at("stop").integer(0, INT32_MAX)) {
        if (content_.empty() || character_bytes(content_[0]) != content_.size()) {
            description.at("content").refuse("one character");
        }
    }

    void operator()(Pieces& pieces) const {
        for (std::string& piece : pieces) {
            std::string_view left = piece;
            for (std::int64_t i = 0; i < start_ && left.starts_with(content_); ++i) left.remove_prefix(content_.size());
            for (std::int64_t i = 0; i < stop_ && left.ends_with(content_); ++i) left.remove_suffix(content_.size());
            piece = std::string(left);
        }
    }

private:
    std::string content_;
    std::int64_t start_, stop_;
};

}  // namespace

std::unique_ptr<Decoder> read_decoder(const JsonValue& description) {
    const auto change = [](auto made) { return std::make_unique<Change>(std::move(made)); };
    const JsonValue type = description.at("type");
    const std::string name = type.text();
    if (name == "Sequence") return std::make_unique<Sequence>(description);
    if (name == "ByteLevel") return change(join_byte_letters);
    if (name == "ByteFallback") return change(join_named_bytes);
    if (name == "Fuse") return change(fuse);
    if (name == "Strip") return change(Strip(description));
    if (name == "Metaspace") {
        return change([metaspace = Metaspace(description)](Pieces& pieces) {
            for (std::size_t i = 0; i < pieces.size(); ++i) pieces[i] = metaspace.unmarked(pieces[i], i == 0);
        });
    }
    if (name == "Replace") return std::make_unique<ReplacePieces>(description);
    type.refuse_unsupported("Sequence, Metaspace, ByteLevel, Replace, ByteFallback, Fuse or Strip");
}

}  // namespace lrengine::text
