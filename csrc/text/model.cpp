#include "text/model.h"

#include <array>

#include "text/bpe.h"
#include "text/unigram.h"

namespace lrengine::text {

std::vector<std::int32_t> Model::byte_pieces() const {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    std::vector<std::int32_t> ids;
    for (std::size_t byte = 0; byte < 256; ++byte) {
        const std::string piece = {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
        ids.push_back(vocabulary_.find(piece).value_or(-1));
    }
    return ids;
}

std::unique_ptr<Model> read_model(const JsonValue& description) {
    const auto type = description.find("type");
    // Files of early versions do not name the kind; a Unigram's vocabulary is a list.
    const std::string name = type ? type->text() : description.at("vocab").is_list() ? "Unigram" : "BPE";
    if (name == "Unigram") return std::make_unique<Unigram>(description);
    if (name == "BPE") return std::make_unique<Bpe>(description);
    type->refuse_unsupported("\"Unigram\" or \"BPE\"");
}

}  // namespace lrengine::text
