#include "cli/memory/counts.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <numeric>

#include "matrix/alignment/objective.h"
#include "matrix/models/block_weights.h"
#include "matrix/models/t5.h"
#include "matrix/models/vae.h"

namespace matrix::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kFloatBytes = 4;
/// Float32 values a pixel, of all frames of a step, in one entity's head, loss and backward: a
/// pixel's logit and its gradient, 2; a byte of its mask, 0.25; rows of cells and what convolutions
/// keep, 0.1. "affine" has no pixel's logit.
constexpr double kHeadValues = 2.35, kAffineHeadValues = 0.35;

std::int64_t count_elements(const auto& construct) {
    tensor_io::CountingWeights weights;
    construct(weights);
    return weights.num_elements();
}

std::int64_t compute_dtype_bytes(const RunConfig& config) {
    return config.model.dtype == "float32" ? 4 : 2;
}

std::int64_t patch_elements(const models::CogVideoXConfig& model) {
    return model.patch_size * model.patch_size * model.patch_size_t.value_or(1);
}

}  // namespace

Sizes sizes_of(const RunConfig& config, const models::CogVideoXConfig& model) {
    Sizes s{};
    s.batch = config.train.batch_size;
    s.frames = (config.data.frames - 1) / model.temporal_compression_ratio + 1;
    const std::int64_t temporal = model.patch_size_t.value_or(1);
    s.tokens =
        (s.frames + temporal - 1) / temporal * (config.data.height / 16) * (config.data.width / 16);
    s.text_rows = model.max_text_seq_length;
    s.width = model.width();
    s.heads = model.num_attention_heads;
    s.dtype_bytes = compute_dtype_bytes(config);
    s.context = config.parallel.context;
    return s;
}

std::int64_t blocks_with_backward(const RunConfig& config, const models::CogVideoXConfig& model) {
    if (config.lora.input_projection != "frozen") {
        return model.num_layers;
    }
    if (config.lora.blocks.empty()) {
        return 0;
    }
    return model.num_layers -
           *std::min_element(config.lora.blocks.begin(), config.lora.blocks.end());
}

models::BlockSizes block_sizes(const RunConfig& config, const Sizes& sizes, std::int64_t blocks) {
    const auto deltas =
        static_cast<std::int64_t>(config.lora.blocks.size() * config.lora.targets.size());
    return {sizes.rows(), sizes.width, sizes.heads, sizes.dtype_bytes,
            deltas * config.lora.rank / std::max<std::int64_t>(1, blocks)};
}

BaseWeights::BaseWeights(const models::CogVideoXConfig& model) : num_blocks(model.num_layers) {
    tensor_io::CountingWeights weights;
    const models::CogVideoXTransformer transformer(model, weights);
    elements = weights.num_elements();
    for (const auto& [key, shape] : weights.shapes()) {
        if (key.starts_with("transformer_blocks.")) {
            const std::int64_t count =
                std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
            in_blocks += count;
            modulating += key.find(".linear.") != std::string::npos ? count : 0;
            feeding += key.find(".ff.") != std::string::npos && shape.size() == 2 ? count : 0;
        }
    }
}

std::int64_t BaseWeights::bytes(const std::string& base, std::int64_t dtype_bytes,
                                std::int64_t sharing_ranks) const {
    const std::int64_t outside = (elements - in_blocks) * dtype_bytes;
    const std::int64_t block = in_blocks / num_blocks * dtype_bytes;
    if (sharing_ranks > 1) {
        return outside + in_blocks * dtype_bytes / sharing_ranks + 2 * block;
    }
    if (base == "streamed") {
        return outside + std::min(models::kStreamedBlocks, num_blocks) * block;
    }
    return base == "fp8" ? outside + in_blocks : elements * dtype_bytes;
}

std::int64_t BaseWeights::widened_bytes(const std::string& base, bool fp8_matmul,
                                        std::int64_t dtype_bytes) const {
    const std::int64_t wide = fp8_matmul ? feeding : in_blocks - modulating;
    return base == "fp8" ? wide / num_blocks * dtype_bytes : 0;
}

Trained::Trained(const RunConfig& config, const models::CogVideoXConfig& model) {
    const std::int64_t projection_in = input_channels(config, model) * patch_elements(model);
    const auto linears =
        static_cast<std::int64_t>(config.lora.blocks.size() * config.lora.targets.size());
    lora = linears * config.lora.rank * 2 * model.width();
    if (config.lora.input_projection == "lora") {
        lora += config.lora.rank * (projection_in + model.width());
    }
    if (config.lora.input_projection == "full") {
        projection = (projection_in + 1) * model.width();
    }
    for (const auto& [name, tensor] :
         alignment::make_matrix_objective(config.alignment, 0, at::kCPU)->parameters()) {
        heads += tensor.numel();
    }
}

Beside::Beside(const RunConfig& config, const models::CogVideoXConfig& model, const Sizes& s) {
    // The last block's output and its norm's, until their backward; the prediction and what it is
    // compared with; all rows where a rank holds a share of them.
    const std::int64_t predicted = s.rows() * model.out_channels * patch_elements(model);
    ends = 2 * s.unit() + 3 * predicted * s.dtype_bytes +
           (s.context > 1 ? 2 * s.context * s.unit() : 0);
    if (config.alignment.sga || config.alignment.spa) {
        constexpr std::int64_t kStepFrames = 4;
        alignment = static_cast<std::int64_t>(
            static_cast<double>(kStepFrames * s.frames * config.data.height * config.data.width *
                                kFloatBytes) *
            (config.alignment.head == "affine" ? kAffineHeadValues : kHeadValues));
        if (config.alignment.readout == "probabilities") {
            // alignment/probability_readout.cpp: float32 gradients of q and k, a second attention's
            // output and the four gradients of its backward.
            readout = 2 * s.rows() * s.width * kFloatBytes + 5 * s.unit();
        }
    }
    // Noisy latents, noise, their target and a condition or two, and the model's input of them.
    const std::int64_t channels = input_channels(config, model);
    const std::int64_t latents = s.frames * (config.data.height / 8) * (config.data.width / 8);
    const std::int64_t prompt = s.text_rows * model.text_embed_dim;
    const std::int64_t cast = s.dtype_bytes < kFloatBytes ? s.dtype_bytes : 0;
    batch =
        s.batch *
        (latents * ((channels + 3 * model.out_channels) * kFloatBytes + channels * s.dtype_bytes) +
         prompt * (kFloatBytes + cast));
    if (alignment > 0) {
        batch += s.batch * 2 * config.data.frames * config.data.height * config.data.width;
    }
    if (!config.data.cache) {
        vae = vae_bytes(config);
    }
}

std::int64_t text_encoder_bytes(const RunConfig& config) {
    const fs::path file = fs::path(config.model.path) / "text_encoder" / "config.json";
    return fs::exists(file)
               ? compute_dtype_bytes(config) * count_elements([&](auto& weights) {
                     const models::T5Encoder encoder(models::T5Config::from_file(file), weights);
                 })
               : 0;
}

std::int64_t vae_bytes(const RunConfig& config) {
    const fs::path file = fs::path(config.model.path) / "vae" / "config.json";
    return compute_dtype_bytes(config) * count_elements([&](auto& weights) {
               models::take_vae_weights(models::VaeConfig::from_file(file), weights);
           });
}

}  // namespace matrix::cli
