// Frequencies of rotary positions, in float32 and in the order of operations of transformers' modeling_rope_utils.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "core/error.h"
#include "models/config_parts.h"

namespace lrengine {

namespace {

// One spelling of the settings: the object with the type's own fields (absent: default), and theta.
struct Settings {
    std::optional<JsonValue> scaling;
    double theta = 10000.0;
    std::int64_t head_dim = 0;
    std::int64_t max_positions = 0;

    double positive(const char* name) const { return scaling->at(name).positive_number(); }

    double optional_positive(const char* name, double otherwise) const {
        const auto field = scaling->find(name);
        return field ? field->positive_number() : otherwise;
    }

    double original_positions() const {
        return optional_positive("original_max_position_embeddings", static_cast<double>(max_positions));
    }
};

// theta^(2j / d) for j < d / 2.
std::vector<float> wavelengths(const Settings& settings) {
    std::vector<float> values(static_cast<std::size_t>(settings.head_dim / 2));
    for (std::size_t j = 0; j < values.size(); ++j) {
        const float exponent = static_cast<float>(2 * j) / static_cast<float>(settings.head_dim);
        values[j] = std::pow(static_cast<float>(settings.theta), exponent);
    }
    return values;
}

Rope default_rope(const Settings& settings) {
    Rope rope{.inv_freq = wavelengths(settings)};
    for (float& value : rope.inv_freq) value = 1.0f / value;
    return rope;
}

Rope linear_rope(const Settings& settings) {
    Rope rope = default_rope(settings);
    const auto factor = static_cast<float>(settings.positive("factor"));
    for (float& value : rope.inv_freq) value /= factor;
    return rope;
}

// Llama 3.1: long waves are slowed by `factor`, short ones kept, those between blended.
Rope llama3_rope(const Settings& settings) {
    const auto factor = static_cast<float>(settings.positive("factor"));
    const double low = settings.positive("low_freq_factor"), high = settings.positive("high_freq_factor");
    if (!(high > low)) settings.scaling->at("high_freq_factor").refuse("more than low_freq_factor");
    const double original = settings.original_positions();
    const auto longest_kept = static_cast<float>(original / high), shortest_slowed = static_cast<float>(original / low);
    Rope rope = default_rope(settings);
    for (float& frequency : rope.inv_freq) {
        const float wavelength = 1.0f / frequency * static_cast<float>(2.0 * std::numbers::pi);
        if (wavelength > shortest_slowed) {
            frequency /= factor;
        } else if (wavelength >= longest_kept) {
            const float smooth = (1.0f / wavelength * static_cast<float>(original) - static_cast<float>(low)) /
                                 static_cast<float>(high - low);
            frequency = (1.0f - smooth) * frequency / factor + smooth * frequency;
        }
    }
    return rope;
}

// YaRN (arXiv 2309.00071): a ramp over the dimensions from the kept to the slowed frequencies, and a factor on cos and
// sin.
double yarn_scaling(const Settings& settings, double factor) {
    const auto magnitude = [&](double scale) { return factor <= 1.0 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0; };
    if (const auto given = settings.scaling->find("attention_factor")) return given->positive_number();
    const auto part = settings.scaling->find("mscale"), whole = settings.scaling->find("mscale_all_dim");
    const double a = part ? part->number() : 0.0, b = whole ? whole->number() : 0.0;
    return a != 0.0 && b != 0.0 ? magnitude(a) / magnitude(b) : magnitude(1.0);
}

Rope yarn_rope(const Settings& settings) {
    const double factor = settings.positive("factor"), original = settings.original_positions();
    const auto dim = static_cast<double>(settings.head_dim);
    const auto dimension_of = [&](double rotations) {
        return dim * std::log(original / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(settings.theta));
    };
    double first = dimension_of(settings.optional_positive("beta_fast", 32.0));
    double last = dimension_of(settings.optional_positive("beta_slow", 1.0));
    const auto truncate = settings.scaling->find("truncate");
    if (!truncate || truncate->boolean()) {
        first = std::floor(first);
        last = std::ceil(last);
    }
    first = std::max(first, 0.0);
    last = std::min(last, dim - 1.0);
    if (first == last) last += 0.001;
    Rope rope{.inv_freq = wavelengths(settings)};
    for (std::size_t j = 0; j < rope.inv_freq.size(); ++j) {
        const float ramp = (static_cast<float>(j) - static_cast<float>(first)) / static_cast<float>(last - first);
        const float kept = 1.0f - std::clamp(ramp, 0.0f, 1.0f);
        const float slowed = 1.0f / (static_cast<float>(factor) * rope.inv_freq[j]);
        rope.inv_freq[j] = slowed * (1.0f - kept) + 1.0f / rope.inv_freq[j] * kept;
    }
    rope.attention_scaling = static_cast<float>(yarn_scaling(settings, factor));
    return rope;
}

Rope compute(const Settings& settings) {
    if (!settings.scaling) return default_rope(settings);
    if (const auto share = settings.scaling->find("partial_rotary_factor"); share && share->number() != 1.0) {
        share->refuse_unsupported("1: all of a head turns");
    }
    auto type = settings.scaling->find("rope_type");
    if (!type) type = settings.scaling->find("type");  // transformers before 4.43
    const std::string name = type ? type->text() : "default";
    if (name == "default") return default_rope(settings);
    if (name == "linear") return linear_rope(settings);
    if (name == "llama3") return llama3_rope(settings);
    if (name == "yarn") return yarn_rope(settings);
    type->refuse_unsupported("default, linear, llama3 or yarn");
}

double read_theta(const JsonValue& field) {
    const double theta = field.number();
    if (!(theta > 1.0 && theta < 1e30)) field.refuse("a number above 1");
    return theta;
}

void check(const Rope& rope, const JsonValue& fields) {
    const auto sound = [](float value) { return std::isfinite(value) && value > 0.0f; };
    if (!std::all_of(rope.inv_freq.begin(), rope.inv_freq.end(), sound) || !sound(rope.attention_scaling)) {
        fields.refuse("rotary settings that give frequencies above 0");
    }
}

}  // namespace

Rope read_rope(const JsonValue& fields, std::int64_t head_dim, std::int64_t max_positions) {
    const auto theta = fields.find("rope_theta");
    Settings settings{.scaling = {}, .theta = 0.0, .head_dim = head_dim, .max_positions = max_positions};
    std::optional<Rope> old_spelling;
    if (theta) {
        settings.theta = read_theta(*theta);
        settings.scaling = fields.find("rope_scaling");
        old_spelling = compute(settings);
        check(*old_spelling, fields);
    }
    const auto parameters = fields.find("rope_parameters");
    if (!parameters) {
        if (!old_spelling) fields.at("rope_theta").number();  // neither: says which field is missing
        return *old_spelling;
    }
    const auto own_theta = parameters->find("rope_theta");
    settings.theta = read_theta(own_theta || !theta ? parameters->at("rope_theta") : *theta);
    settings.scaling = parameters;
    const Rope rope = compute(settings);
    check(rope, fields);
    if (old_spelling && *old_spelling != rope) parameters->refuse("the same as rope_theta and rope_scaling say");
    return rope;
}

}  // namespace lrengine
