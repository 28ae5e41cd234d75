#pragma once

#include "matrix/lora/config.h"
#include "matrix/nn/adaptable.h"
#include "matrix/tensor_io/safetensors.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace matrix::lora {

/// What a file of trained tensors says of itself.
struct AdapterInfo {
    std::int64_t rank = 0;
    double alpha = 0.0;
    bool rslora = false;
    std::string base;  ///< the model directory it was trained on, for information
    std::int64_t in_channels =
        0;                ///< of the input projection while training; 0 if the files do not tell
    bool id_map = false;  ///< whether an ID map is expected
    /// Of an adapter directory, whose files have the strength folded in and `alpha` = `rank`: the
    /// alpha it was trained with.
    std::optional<double> trained_alpha = {};

    [[nodiscard]] double scale() const { return delta_scale(rank, alpha, rslora); }
};

/// An adapter in memory: low-rank factors by linear ("transformer_blocks.7.attn1.to_q"), float32,
/// and the whole input projection where that was trained.
struct Adapter {
    AdapterInfo info;
    std::map<std::string, nn::LowRankDelta> deltas;
    at::Tensor projection_weight;  ///< or undefined
    at::Tensor projection_bias;    ///< or undefined
};

/// Fresh deltas on the model's linears that `config` names: A uniform in +-1/sqrt(in) (Kaiming, a =
/// sqrt(5)), B zero, float32 on the model's device, keyed by (seed, name). With `input_projection`
/// = "full" its weight and bias become float32 masters. Everything made requires a gradient.
void attach_new(nn::Adaptable& model, const LoraConfig& config, std::uint64_t seed);

/// Puts an adapter's deltas and projection onto the model. RunError for a key whose block or linear
/// the model has not and for shapes that do not fit; a 48-channel projection LoRA or projection
/// widens a 32-channel input first. A refused adapter leaves the model as it was. `strength`
/// multiplies what the adapter changes, a whole projection's difference from the model's included.
void attach(nn::Adaptable& model, const Adapter& adapter, bool trainable, double strength = 1.0);

/// Every trainable tensor of the model by its checkpoint name:
/// "transformer.<linear>.lora_A.weight", "...lora_B.weight", "transformer.patch_embed.proj.weight",
/// "....bias".
[[nodiscard]] std::map<std::string, at::Tensor> trained_parameters(nn::Adaptable& model);

/// What the model's trained tensors are as an adapter; `info` describes them.
[[nodiscard]] Adapter collect(nn::Adaptable& model, const AdapterInfo& info);

/// `adapter.safetensors` of a training checkpoint: every trained tensor (heads too) in float32 by
/// its name, and `info` in the header.
void write_checkpoint_adapter(const std::filesystem::path& path,
                              const std::map<std::string, at::Tensor>& trained,
                              const AdapterInfo& info);

/// Reads any adapter this program knows: a training checkpoint (directory or its
/// `adapter.safetensors`); an adapter directory (the files that its `matrix_adapter.json` names, or
/// without one the LoRA file and the sidecars that are there); peft's directory; a bare file in a
/// dialect of diffusers (the old one too), peft, kohya (one or two underscores) or ComfyUI, in any
/// floating dtype. docs/formats.md has the keys. The strength is the dialect's: rank_pattern,
/// alpha_pattern and use_rslora of a header or of peft's `adapter_config.json` as peft has it;
/// alpha / r of a linear's `.alpha`; without any the scale is 1. RunError naming the key or file:
/// keys of no dialect or of two, half a pair, shapes that do not fit together, rank 0, no tensors,
/// values that are not finite, a rank that differs from the header, a sidecar that is not there.
[[nodiscard]] Adapter read_adapter(const std::filesystem::path& path);

}  // namespace matrix::lora
