#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "matrix/tensor_io/weights.h"

namespace matrix::models {

/// text_encoder/config.json of `T5EncoderModel` (T5 v1.1: gated GELU feed-forward, no biases);
/// absent fields take the reference's defaults.
struct T5Config {
    std::int64_t d_model = 512;
    std::int64_t d_kv = 64;  ///< per head; num_heads * d_kv need not be d_model
    std::int64_t num_heads = 8;
    std::int64_t d_ff = 2048;
    std::int64_t num_layers = 6;
    std::int64_t vocab_size = 32128;
    std::int64_t relative_attention_num_buckets = 32;
    std::int64_t relative_attention_max_distance = 128;
    double layer_norm_epsilon = 1e-6;

    /// Types, ranges and combinations are checked before a value is used; RunError naming the file
    /// and the field. A feed_forward_proj other than "gated-gelu" (the reference's default is
    /// "relu") is an error.
    [[nodiscard]] static T5Config from_file(const std::filesystem::path& config_json);
};

/// The encoder half of T5 v1.1 as CogVideoX uses it: no attention mask (padding is attended like
/// any token), no dropout. Raffel et al., "Exploring the Limits of Transfer Learning" (2020),
/// section 2.1; the gated GELU is Shazeer's (2020).
///
/// The residual stream, the norms and the attention core (scores, position bias, softmax, mixing)
/// are float32 whatever the weights' dtype; the linear maps and the gated GELU run in the weights'
/// dtype. In bfloat16 that rounds less often than the reference, which keeps the residual stream in
/// bfloat16. Never records a gradient.
class T5Encoder {
public:
    /// Takes every parameter under the checkpoint's key and finishes the source: RunError with all
    /// faulty keys.
    T5Encoder(const T5Config& config, tensor_io::WeightSource& weights);

    /// input_ids [n, L] I64 (on any device) to last_hidden_state [n, L, d_model] in the dtype and
    /// on the device of the weights. Works through a few prompts at a time, so that memory does not
    /// grow with n beyond the result. RunError if an id is not in the vocabulary.
    [[nodiscard]] at::Tensor forward(const at::Tensor& input_ids) const;

    [[nodiscard]] const T5Config& config() const { return config_; }

private:
    struct Block {
        at::Tensor attention_norm;  // [d_model]
        at::Tensor q;               // [num_heads * d_kv, d_model], as k and v
        at::Tensor k;
        at::Tensor v;
        at::Tensor o;                  // [d_model, num_heads * d_kv]
        at::Tensor feed_forward_norm;  // [d_model]
        at::Tensor wi_0;               // [d_ff, d_model], gated by GELU
        at::Tensor wi_1;               // [d_ff, d_model]
        at::Tensor wo;                 // [d_model, d_ff]
    };

    [[nodiscard]] at::Tensor position_bias(std::int64_t length) const;
    [[nodiscard]] at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const;
    [[nodiscard]] at::Tensor attention(const Block& block, const at::Tensor& x,
                                       const at::Tensor& bias) const;
    [[nodiscard]] at::Tensor encode(const at::Tensor& input_ids, const at::Tensor& bias) const;

    T5Config config_;
    at::Tensor shared_;                   // [vocab_size, d_model]
    at::Tensor relative_attention_bias_;  // [num_buckets, num_heads]
    std::vector<Block> blocks_;
    at::Tensor final_layer_norm_;  // [d_model]
};

}  // namespace matrix::models
