#include <string>

#include "matrix/core/model_config.h"
#include "matrix/models/t5.h"

namespace matrix::models {

namespace {

// Far above any published model; small enough that no product of two sizes overflows.
constexpr std::int64_t kMaxWidth = 1 << 17;
constexpr std::int64_t kMaxHeads = 1024;
constexpr std::int64_t kMaxHeadDim = 1024;
constexpr std::int64_t kMaxLayers = 1024;
constexpr std::int64_t kMaxVocabulary = 1 << 22;
constexpr std::int64_t kMaxBuckets = 4096;
constexpr std::int64_t kMaxDistance = 1 << 20;

}  // namespace

T5Config T5Config::from_file(const std::filesystem::path& config_json) {
    const ModelConfig file(config_json);
    file.only("model_type", "t5");
    file.require("feed_forward_proj");
    file.only("feed_forward_proj", "gated-gelu");
    file.only("dense_act_fn", "gelu_new");
    file.only("is_gated_act", true);
    file.only("is_decoder", false);
    T5Config c;
    c.d_model = file.integer("d_model", c.d_model, 1, kMaxWidth);
    c.d_kv = file.integer("d_kv", c.d_kv, 1, kMaxHeadDim);
    c.num_heads = file.integer("num_heads", c.num_heads, 1, kMaxHeads);
    c.d_ff = file.integer("d_ff", c.d_ff, 1, kMaxWidth);
    c.num_layers = file.integer("num_layers", c.num_layers, 1, kMaxLayers);
    c.vocab_size = file.integer("vocab_size", c.vocab_size, 1, kMaxVocabulary);
    // A quarter of the buckets is exact, so that the logarithm of the rest has a base.
    c.relative_attention_num_buckets = file.integer(
        "relative_attention_num_buckets", c.relative_attention_num_buckets, 4, kMaxBuckets);
    c.relative_attention_max_distance = file.integer(
        "relative_attention_max_distance", c.relative_attention_max_distance, 1, kMaxDistance);
    c.layer_norm_epsilon = file.number("layer_norm_epsilon", c.layer_norm_epsilon, 0, 1);
    if (c.relative_attention_max_distance <= c.relative_attention_num_buckets / 4) {
        file.fail("relative_attention_max_distance",
                  "must be above a quarter of relative_attention_num_buckets (" +
                      std::to_string(c.relative_attention_num_buckets) + "), got " +
                      std::to_string(c.relative_attention_max_distance));
    }
    return c;
}

}  // namespace matrix::models
