// What config.json says, field by field.
#include "models/config.h"

#include <cmath>

#include "config_files.h"
#include "core/error.h"
#include "harness.h"

using namespace lrengine;
using namespace config_files;

namespace {

EncoderConfig read_encoder(const json& fields) { return read(classifier(fields)).classifier->encoder; }

LlmConfig read_llm(const json& fields) { return read(fusion(mt5(), fields)).fusion->llm; }

}  // namespace

TEST(config_of_swcm) {
    const ModelConfig model = read(swcm());
    CHECK_EQUAL(model.model_type, "swcm");
    CHECK(model.swcm && !model.fusion && !model.classifier && !model.quantization);
    const SwcmConfig& config = *model.swcm;
    CHECK_EQUAL(config.normal_layer_interval, 3);
    CHECK(config.normal_after_last && config.tied_output && !config.output_bias);
    CHECK(config.norm_style == NormStyle::kPost && config.sharing == Sharing::kInit);
    CHECK_EQUAL(config.decoder_eps, 1e-5f);
    CHECK_EQUAL(config.max_target_positions, 64);
    CHECK(model.tokens.bos == 0 && model.tokens.pad == 1 && model.tokens.decoder_start == 0);
    CHECK(model.tokens.eos == std::vector<std::int64_t>({2}));
    CHECK(read(with(swcm(), "/norm_style", "published")).swcm->norm_style == NormStyle::kPublished);
    CHECK(read(with(swcm(), "/sharing", "tied")).swcm->sharing == Sharing::kTied);
    CHECK(read(with(swcm(), "/sharing", "none")).swcm->sharing == Sharing::kNone);
}

TEST(config_of_fusion) {
    const ModelConfig model = read(fusion());
    REQUIRE(model.fusion.has_value());
    CHECK(model.tokens.bos == 1 && !model.tokens.pad && !model.tokens.decoder_start);
    CHECK(model.tokens.eos == std::vector<std::int64_t>({2, 5}));
    const MixerConfig& mixer = model.fusion->mixer;
    CHECK(mixer.kind == MixerKind::kTransformer && mixer.ffn == 48 && !mixer.add_global);
    CHECK(mixer.temperature_base == 100.0 && mixer.temperature_factor == 1e5);
    CHECK(model.fusion->mapper.kind == MapperKind::kLinear);
    CHECK(!read(with(fusion(), "/bos_token_id", nullptr)).tokens.bos);
    CHECK(read(with(fusion(), "/mixer/add_global", true)).fusion->mixer.add_global);
}

TEST(config_of_mappers) {
    const json mlp = {{"type", "mlp"}, {"hidden_dim", 80}, {"activation", "relu"}};
    const MapperConfig two_layers = read(with(fusion(), "/mapper", mlp)).fusion->mapper;
    CHECK(two_layers.kind == MapperKind::kMlp && two_layers.hidden == 80 && two_layers.activation == Activation::kRelu);
    const json latent = {{"type", "latent"}, {"num_latents", 8}, {"depth", 2},
                         {"heads", 3},       {"head_dim", 4},    {"ffn_dim", 5}};
    const MapperConfig resampler = read(with(fusion(), "/mapper", latent)).fusion->mapper;
    CHECK(resampler.kind == MapperKind::kLatent && resampler.latents == 8 && resampler.depth == 2);
    CHECK(resampler.heads == 3 && resampler.head_dim == 4 && resampler.ffn == 5);
}

TEST(config_of_classifier) {
    const ModelConfig model = read(classifier());
    REQUIRE(model.classifier.has_value());
    CHECK(model.classifier->labels == std::vector<std::string>({"no", "yes", "maybe"}));
    CHECK(model.classifier->mixer.kind == MixerKind::kGlobal);
    CHECK(model.tokens.eos.empty());
    CHECK_EQUAL(read(with(classifier(), "/id2label", {{"0", "one"}})).classifier->labels.size(), 1u);
}

TEST(config_labels_keep_the_order_of_their_numbers) {
    json labels;
    for (int i = 0; i < 12; ++i) labels[std::to_string(i)] = "label " + std::to_string(i);  // "10" sorts before "2"
    CHECK(read(with(classifier(), "/id2label", labels)).classifier->labels.at(10) == "label 10");
}

TEST(config_of_a_quantized_directory) {
    const json int8 = {{"dtype", "int8"}, {"scheme", "per-row-symmetric"}};
    CHECK(read(with(swcm(), "/quantization", int8)).quantization.value().dtype == DType::kInt8);
    for (const int size : {32, 64, 128}) {
        const json int4 = {{"dtype", "int4"}, {"scheme", "group-symmetric"}, {"group_size", size}};
        const auto found = read(with(swcm(), "/quantization", int4)).quantization.value();
        CHECK(found.dtype == DType::kInt4 && found.group_size == size);
    }
    CHECK(!read(with(swcm(), "/quantization", nullptr)).quantization);
}

TEST(config_of_bert_type_encoders) {
    const EncoderConfig xlm = read_encoder(xlm_roberta());
    CHECK(xlm.kind == EncoderKind::kBert && xlm.layers == 3 && xlm.width == 72 && xlm.heads == 3 && xlm.head_dim == 24);
    CHECK(xlm.ffn == 90 && xlm.vocab == 331 && xlm.type_vocab == 1 && xlm.pad_id == 1 && xlm.eps == 1e-5f);
    CHECK(xlm.position_rows == 66 && xlm.position_offset == 2 && xlm.max_positions == 64);
    CHECK(xlm.activation == Activation::kGelu && xlm.embedding_scale == 1.0f);
    const EncoderConfig plain = read_encoder(bert());
    CHECK(plain.position_rows == 66 && plain.position_offset == 0 && plain.max_positions == 66);
    CHECK(plain.pad_id == 0 && plain.type_vocab == 2 && plain.eps == 1e-12f);
    CHECK_EQUAL(read_encoder(with(xlm_roberta(), "/model_type", "roberta")).position_offset, 2);
    CHECK_EQUAL(read_encoder(with(xlm_roberta(), "/pad_token_id", 4)).max_positions, 61);
    CHECK_EQUAL(read_encoder(without(bert(), "/pad_token_id")).pad_id, 0);
    CHECK(read_encoder(with(bert(), "/hidden_act", "gelu_new")).activation == Activation::kGeluTanh);
}

TEST(config_of_t5_type_encoders) {
    const EncoderConfig mt = read_encoder(mt5());
    CHECK(mt.kind == EncoderKind::kT5 && mt.layers == 2 && mt.width == 40 && mt.heads == 3 && mt.head_dim == 16);
    CHECK(mt.ffn == 56 && mt.gated && mt.activation == Activation::kGeluTanh && !mt.bias_per_layer);
    CHECK(mt.bias_buckets == 32 && mt.bias_max_distance == 128 && mt.max_positions == 0 && mt.eps == 1e-6f);
    CHECK(read_encoder(with(mt5(), "/model_type", "umt5")).bias_per_layer);
    const EncoderConfig old = read_encoder(with(with(mt5(), "/model_type", "t5"), "/feed_forward_proj", "relu"));
    CHECK(!old.gated && old.activation == Activation::kRelu);
    const EncoderConfig silu = read_encoder(with(mt5(), "/feed_forward_proj", "gated-silu"));
    CHECK(silu.gated && silu.activation == Activation::kSilu);
    CHECK(read_encoder(with(mt5(), "/feed_forward_proj", "gelu")).activation == Activation::kGelu);
}

TEST(config_of_m2m100_encoders) {
    const EncoderConfig nllb = read_encoder(m2m100());
    CHECK(nllb.kind == EncoderKind::kM2M100 && nllb.layers == 2 && nllb.width == 64 && nllb.heads == 4);
    CHECK(nllb.head_dim == 16 && nllb.ffn == 96 && nllb.max_positions == 1024 && nllb.position_offset == 2);
    CHECK(nllb.activation == Activation::kRelu && nllb.eps == 1e-5f);
    CHECK_EQUAL(nllb.embedding_scale, 8.0f);
    CHECK_EQUAL(read_encoder(with(m2m100(), "/scale_embedding", false)).embedding_scale, 1.0f);
}

TEST(config_of_llama) {
    const LlmConfig config = read_llm(llama());
    CHECK(config.model_type == "llama" && config.layers == 2 && config.width == 64 && config.heads == 4);
    CHECK(config.kv_heads == 2 && config.head_dim == 16 && config.ffn == 112 && config.vocab == 400);
    CHECK(config.max_positions == 2048 && config.eps == 1e-5f && config.activation == Activation::kSilu);
    CHECK(!config.attention_bias && !config.attention_output_bias && !config.mlp_bias && !config.qk_norm);
    CHECK(config.tied_output && config.sliding_window == 0 && config.inv_freq.size() == 8);
    const LlmConfig biased = read_llm(with(with(llama(), "/attention_bias", true), "/mlp_bias", true));
    CHECK(biased.attention_bias && biased.attention_output_bias && biased.mlp_bias);
}

TEST(config_of_head_sizes) {
    CHECK_EQUAL(read_llm(with(llama(), "/head_dim", nullptr)).head_dim, 16);
    CHECK_EQUAL(read_llm(without(llama(), "/head_dim")).head_dim, 16);
    CHECK_EQUAL(read_llm(with(llama(), "/head_dim", 32)).head_dim, 32);  // heads * head_dim need not be the width
    CHECK_EQUAL(read_llm(with(llama(), "/num_key_value_heads", nullptr)).kv_heads, 4);
}

TEST(config_of_mistral) {
    json fields = with(llama(), "/model_type", "mistral");
    for (const char* name : {"attention_bias", "mlp_bias"}) fields.erase(name);
    CHECK_EQUAL(read_llm(fields).sliding_window, 4096);  // MistralConfig's default
    fields["sliding_window"] = nullptr;
    CHECK_EQUAL(read_llm(fields).sliding_window, 0);
    fields["sliding_window"] = 512;
    const LlmConfig config = read_llm(fields);
    CHECK(config.sliding_window == 512 && !config.attention_bias && !config.qk_norm);
}

TEST(config_of_qwen) {
    const LlmConfig second = read_llm(qwen2());
    CHECK(second.attention_bias && !second.attention_output_bias && !second.mlp_bias && !second.qk_norm);
    CHECK(second.head_dim == 16 && second.sliding_window == 0);
    json fields = qwen2();
    fields.update({{"model_type", "qwen3"}, {"head_dim", 24}, {"attention_bias", false}});
    const LlmConfig third = read_llm(fields);
    CHECK(third.qk_norm && !third.attention_bias && third.head_dim == 24);
}

TEST(config_of_qwen_windows) {
    json fields = qwen2();
    fields.update({{"sliding_window", 512}, {"max_window_layers", 1}});
    CHECK_EQUAL(read_llm(fields).sliding_window, 0);  // not used
    fields["use_sliding_window"] = true;
    CHECK_EQUAL(read_llm(fields).sliding_window, 0);  // used by no layer
    fields["layer_types"][1] = "sliding_attention";
    CHECK_EQUAL(read_llm(with(fields, "/use_sliding_window", false)).sliding_window, 0);
    CHECK_EQUAL(read_llm(fields).sliding_window, 512);
    fields.erase("layer_types");
    CHECK_EQUAL(read_llm(fields).sliding_window, 512);  // layers from 1 on
    fields["max_window_layers"] = 2;
    CHECK_EQUAL(read_llm(fields).sliding_window, 0);
}
