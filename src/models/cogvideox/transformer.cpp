#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <array>
#include <cmath>
#include <mutex>
#include <utility>

#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "matrix/models/cogvideox.h"
#include "matrix/nn/offload.h"
#include "models/cogvideox/block.h"
#include "models/cogvideox/parts.h"

// Letters: B batch, F latent frames, C channels, h x w latents, gh x gw token grid, L text rows, N
// video tokens, D width, E embedding width.

namespace matrix::models {
namespace {

constexpr double kMaxPeriod = 10000.0;

/// Sinusoidal embedding of [B] values, [B, dim] float32.
at::Tensor sinusoid(const at::Tensor& values, std::int64_t dim, const CogVideoXConfig& config) {
    const std::int64_t half = dim / 2;
    const at::Tensor exponents =
        at::arange(half, at::TensorOptions(at::kFloat).device(values.device())) *
        -std::log(kMaxPeriod) / (static_cast<double>(half) - config.freq_shift);
    const at::Tensor angles =
        values.to(at::kFloat).unsqueeze(1) * exponents.exp().unsqueeze(0);  // [B, half]
    at::Tensor embedding = config.flip_sin_to_cos ? at::cat({angles.cos(), angles.sin()}, 1)
                                                  : at::cat({angles.sin(), angles.cos()}, 1);
    return dim % 2 == 0 ? embedding : at::constant_pad_nd(embedding, {0, 1});
}

struct TwoLayer {
    nn::Linear first, second;
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const {
        return second(at::silu(first(x)));
    }
};

TwoLayer take_two_layer(tensor_io::WeightSource& weights, const std::string& prefix,
                        std::int64_t in, std::int64_t out) {
    return {take_linear(weights, prefix + ".linear_1", out, in),
            take_linear(weights, prefix + ".linear_2", out, out)};
}

}  // namespace

/// What depends on the latents' size alone.
struct SizeTables {
    std::array<std::int64_t, 3> size{};  // F, h, w
    at::Tensor positions;                // [1, L + N, D] in the model's dtype, or undefined
    at::Tensor rotation;                 // [N, 1, head_dim / 2] complex64, or undefined
};

struct CogVideoXTransformer::Impl {
    CogVideoXConfig config;
    nn::Linear proj, text_proj;
    at::Tensor pos_embedding;  // [1, L + N, D] learned, or undefined
    TwoLayer time_embedding, ofs_embedding;
    std::vector<CogVideoXBlock> blocks;
    std::unique_ptr<BlockWeights> block_weights;
    std::shared_ptr<nn::ActivationOffload> offload = nn::make_activation_offload();
    nn::LayerNorm norm_final, norm_out_norm;
    nn::Linear norm_out, proj_out;

    [[nodiscard]] std::int64_t patch_frames() const { return config.patch_size_t.value_or(1); }
    void check(const BackboneInput& input) const;
    [[nodiscard]] at::Tensor embedding(const BackboneInput& input) const;
    [[nodiscard]] at::Tensor patches(const at::Tensor& x) const;
    [[nodiscard]] at::Tensor joint_rows(const BackboneInput& input,
                                        const at::Tensor& positions) const;
    /// Made anew only when the size changes.
    [[nodiscard]] SizeTables tables(const at::Tensor& latents) const;
    [[nodiscard]] at::Tensor positions(std::int64_t frames, std::int64_t height,
                                       std::int64_t width) const;
    [[nodiscard]] at::Tensor unpatchify(const at::Tensor& rows, at::IntArrayRef input_shape) const;
    /// The rotation of the video rows that this rank holds.
    [[nodiscard]] at::Tensor own_rotation(const at::Tensor& rotation,
                                          const nn::JointRows& rows) const;
    /// The block with its weights at hand, and those of the one that runs next, if any, on their
    /// way.
    [[nodiscard]] CogVideoXBlock loaded(const CogVideoXBlock& block, std::int64_t index,
                                        std::int64_t next) const;

private:
    mutable std::mutex last_tables_mutex_;
    mutable SizeTables last_tables_;
};

CogVideoXTransformer::CogVideoXTransformer(const CogVideoXConfig& config,
                                           tensor_io::WeightSource& weights,
                                           std::unique_ptr<BlockWeights> block_weights)
    : impl_(std::make_unique<Impl>()) {
    Impl& m = *impl_;
    m.config = config;
    m.block_weights = std::move(block_weights);
    const std::int64_t dim = config.width(), p = config.patch_size;
    if (config.patch_size_t) {
        m.proj = take_linear(weights, "patch_embed.proj", dim,
                             config.in_channels * p * p * *config.patch_size_t);
    } else {
        m.proj.weight = weights.take("patch_embed.proj.weight", {dim, config.in_channels, p, p});
        if (config.patch_bias) {
            m.proj.bias = weights.take("patch_embed.proj.bias", {dim});
        }
    }
    m.text_proj = take_linear(weights, "patch_embed.text_proj", dim, config.text_embed_dim);
    if (config.use_learned_positional_embeddings) {
        const std::int64_t frames =
            (config.sample_frames - 1) / config.temporal_compression_ratio + 1;
        const std::int64_t tokens = frames * (config.sample_height / p) * (config.sample_width / p);
        m.pos_embedding = weights.take("patch_embed.pos_embedding",
                                       {1, config.max_text_seq_length + tokens, dim});
    }
    m.time_embedding = take_two_layer(weights, "time_embedding", dim, config.time_embed_dim);
    if (config.ofs_embed_dim) {
        m.ofs_embedding =
            take_two_layer(weights, "ofs_embedding", *config.ofs_embed_dim, *config.ofs_embed_dim);
    }
    for (std::int64_t i = 0; i < config.num_layers; ++i) {
        const CogVideoXBlock block(config, "transformer_blocks." + std::to_string(i), weights);
        m.blocks.push_back(block.with_weights(m.block_weights->adopt(block.weights())));
    }
    const bool affine = config.norm_elementwise_affine;
    m.norm_final = take_norm(weights, "norm_final", dim, config.norm_eps, affine);
    m.norm_out_norm = take_norm(weights, "norm_out.norm", dim, config.norm_eps, affine);
    m.norm_out = take_linear(weights, "norm_out.linear", 2 * dim, config.time_embed_dim);
    m.proj_out =
        take_linear(weights, "proj_out", config.out_channels * p * p * m.patch_frames(), dim);
    weights.finish();
}

CogVideoXTransformer::~CogVideoXTransformer() = default;

void CogVideoXTransformer::Impl::check(const BackboneInput& input) const {
    const at::Tensor& x = input.hidden_states;
    expect_shape(x, {-1, -1, config.in_channels, -1, -1}, "hidden_states");
    const std::int64_t batch = x.size(0);
    expect_shape(input.encoder_hidden_states, {batch, -1, config.text_embed_dim},
                 "encoder_hidden_states");
    expect_shape(input.timestep, {batch}, "timestep");
    if (x.numel() == 0) {
        throw RunError("hidden_states: " + shape_text(x.sizes()) + " is empty");
    }
    if (x.size(3) < config.patch_size || x.size(4) < config.patch_size ||
        x.size(3) % config.patch_size != 0 || x.size(4) % config.patch_size != 0) {
        throw RunError("hidden_states: " + shape_text(x.sizes()) +
                       " does not divide into patches of " + std::to_string(config.patch_size) +
                       " x " + std::to_string(config.patch_size));
    }
    if (x.size(1) % patch_frames() != 0) {
        throw RunError("hidden_states: " + std::to_string(x.size(1)) +
                       " latent frames are no multiple of patch_size_t " +
                       std::to_string(patch_frames()));
    }
    if (config.patch_size_t &&
        (x.size(3) > config.sample_height || x.size(4) > config.sample_width)) {
        throw RunError("hidden_states: latents of " + std::to_string(x.size(3)) + " x " +
                       std::to_string(x.size(4)) + " are larger than the rotary table's " +
                       std::to_string(config.sample_height) + " x " +
                       std::to_string(config.sample_width));
    }
    if (config.use_learned_positional_embeddings &&
        (x.size(3) != config.sample_height || x.size(4) != config.sample_width)) {
        throw RunError("hidden_states: the learned position table is for latents of " +
                       std::to_string(config.sample_height) + " x " +
                       std::to_string(config.sample_width) + ", not " + std::to_string(x.size(3)) +
                       " x " + std::to_string(x.size(4)));
    }
    if (config.has_position_table() &&
        input.encoder_hidden_states.size(1) != config.max_text_seq_length) {
        throw RunError("encoder_hidden_states: a model with a position table wants " +
                       std::to_string(config.max_text_seq_length) + " text rows, got " +
                       std::to_string(input.encoder_hidden_states.size(1)));
    }
}

at::Tensor CogVideoXTransformer::Impl::embedding(const BackboneInput& input) const {
    const at::ScalarType dtype = input.hidden_states.scalar_type();
    at::Tensor emb =
        time_embedding(sinusoid(input.timestep, config.width(), config).to(dtype));  // [B, E]
    if (config.ofs_embed_dim) {
        // The reference's `ofs` tensor has the dtype of the latents.
        const at::Tensor ofs = at::full({1}, input.ofs, input.hidden_states.options());
        emb = emb + ofs_embedding(sinusoid(ofs, *config.ofs_embed_dim, config).to(dtype));
    }
    return emb;
}

at::Tensor CogVideoXTransformer::Impl::patches(const at::Tensor& x) const {
    const std::int64_t p = config.patch_size, pt = patch_frames();
    const std::int64_t batch = x.size(0), frames = x.size(1) / pt, channels = x.size(2);
    const std::int64_t gh = x.size(3) / p, gw = x.size(4) / p;
    return x.reshape({batch, frames, pt, channels, gh, p, gw, p})
        .permute({0, 1, 4, 6, 3, 2, 5,
                  7})  // [B, F, gh, gw, C, pt, p, p]: the order of the weight's columns
        .reshape({batch, frames * gh * gw, channels * pt * p * p});
}

at::Tensor CogVideoXTransformer::Impl::positions(std::int64_t frames, std::int64_t height,
                                                 std::int64_t width) const {
    const std::int64_t pixel_frames = (frames - 1) * config.temporal_compression_ratio + 1;
    if (pos_embedding.defined() && pixel_frames == config.sample_frames) {
        return pos_embedding;
    }
    // Also what the reference does to a learned table when only the frame count differs.
    return sincos_position_table(config, frames, height, width).unsqueeze(0);
}

SizeTables CogVideoXTransformer::Impl::tables(const at::Tensor& latents) const {
    const std::int64_t frames = latents.size(1), height = latents.size(3), width = latents.size(4);
    const std::lock_guard lock(last_tables_mutex_);
    if (last_tables_.size != std::array{frames, height, width}) {
        SizeTables made;
        made.size = {frames, height, width};
        if (config.has_position_table()) {
            made.positions = positions(frames, height, width)
                                 .to(text_proj.weight.device(), text_proj.weight.scalar_type());
        }
        if (config.use_rotary_positional_embeddings) {
            const RotaryTable table = rotary_table(config, frames, height, width);
            made.rotation = at::complex(table.cos.slice(1, 0, c10::nullopt, 2),
                                        table.sin.slice(1, 0, c10::nullopt, 2))
                                .unsqueeze(1)
                                .to(latents.device());
        }
        last_tables_ = made;
    }
    return last_tables_;
}

at::Tensor CogVideoXTransformer::Impl::joint_rows(const BackboneInput& input,
                                                  const at::Tensor& positions) const {
    const at::Tensor joint =
        at::cat({text_proj(input.encoder_hidden_states), proj(patches(input.hidden_states))},
                1);  // [B, L + N, D]
    return positions.defined() ? joint + positions : joint;
}

at::Tensor CogVideoXTransformer::Impl::unpatchify(const at::Tensor& rows,
                                                  at::IntArrayRef shape) const {
    const std::int64_t p = config.patch_size, pt = patch_frames();
    const std::int64_t batch = shape[0], frames = shape[1] / pt, gh = shape[3] / p,
                       gw = shape[4] / p;
    return rows.reshape({batch, frames, gh, gw, config.out_channels, pt, p, p})
        .permute({0, 1, 5, 4, 2, 6, 3, 7})  // [B, F, pt, C, gh, p, gw, p]
        .reshape({batch, frames * pt, config.out_channels, gh * p, gw * p});
}

at::Tensor CogVideoXTransformer::Impl::own_rotation(const at::Tensor& rotation,
                                                    const nn::JointRows& rows) const {
    if (!rotation.defined() || rows.group == nullptr) {
        return rotation;
    }
    // Text rows are not rotated; a table over all rows, of which they are zeros, has the ranges.
    const at::Tensor text =
        at::zeros({rows.layout.text_tokens, 1, rotation.size(2)}, rotation.options());
    return nn::own_rows(at::cat({text, rotation}), 0, rows)
        .narrow(0, rows.text_rows, rows.rows - rows.text_rows);
}

CogVideoXBlock CogVideoXTransformer::Impl::loaded(const CogVideoXBlock& block, std::int64_t index,
                                                  std::int64_t next) const {
    const std::vector<at::Tensor> weights = block_weights->acquire(index);
    block_weights->prefetch(next);
    return weights.empty() ? block : block.with_weights(weights, block_weights->scales(index));
}

BackboneOutput CogVideoXTransformer::forward(const BackboneInput& input,
                                             const ForwardOptions& options) const {
    const Impl& m = *impl_;
    m.check(input);
    TORCH_CHECK(
        options.edits.empty() ||
            (!c10::GradMode::is_enabled() && options.sequence == nullptr &&
             options.edits.begin()->first >= 0 && options.edits.rbegin()->first < num_blocks()),
        "attention edits are for the model's own blocks, on one rank without gradients");
    const at::Tensor& latents = input.hidden_states;
    const std::int64_t text_rows = input.encoder_hidden_states.size(1);

    BlockContext context;
    context.rows = nn::JointRows::of(
        layout(latents.size(1), latents.size(3), latents.size(4), text_rows), options.sequence);
    const nn::JointRows& rows = context.rows;
    const at::Tensor emb = m.embedding(input);
    context.silu_embedding = at::silu(emb);
    const SizeTables tables = m.tables(latents);
    context.rotation = m.own_rotation(tables.rotation, rows);

    BackboneOutput output;
    at::Tensor x = m.joint_rows(input, tables.positions);  // [B, S, D]
    if (rows.group != nullptr) {
        x = nn::own_rows(x, 1, rows);  // [B, R, D]
    }
    constexpr std::int64_t kNone = -1;
    std::int64_t first_differentiated = kNone;
    for (std::int64_t i = 0; i < num_blocks(); ++i) {
        const CogVideoXBlock& block = m.blocks[static_cast<std::size_t>(i)];
        const auto tap_entry = options.taps.find(i);
        const nn::Tap tap = tap_entry == options.taps.end() ? nn::Tap() : tap_entry->second;
        const auto edit_entry = options.edits.find(i);
        const nn::AttentionEdit edit =
            edit_entry == options.edits.end() ? nn::AttentionEdit() : edit_entry->second;
        const std::vector<at::Tensor> trainable = block.trainable();
        const bool differentiates =
            c10::GradMode::is_enabled() && (x.requires_grad() || !trainable.empty());
        if (differentiates && first_differentiated == kNone) {
            first_differentiated = i;
        }
        // Backward ends at the first block that it differentiates: below, none is wanted.
        const std::int64_t before = i > first_differentiated ? i - 1 : kNone;
        const nn::BlockFunction run = [&m, &block, i, before, context, tap, edit](
                                          const std::vector<at::Tensor>& inputs,
                                          nn::RecomputeMemo& memo) {
            return m.loaded(block, i, memo.recomputing ? before : i + 1)
                .run(inputs[0], context, tap, edit, memo);
        };
        const std::vector<at::Tensor> outputs = nn::recompute_in_backward(
            run, {std::move(x)}, trainable, differentiates ? options.kept_by(i) : nn::Keep::kGraph,
            m.offload);
        x = outputs[0];
        if (tap) {
            output.tap_outputs[i] = outputs[1];
        }
    }

    const std::int64_t num_video = rows.layout.video_tokens();
    if (rows.group == nullptr) {
        x = x.narrow(1, text_rows, num_video);  // [B, N, D]
    }
    const std::vector<at::Tensor> shift_scale =
        m.norm_out(context.silu_embedding).unsqueeze(1).chunk(2, 2);
    const at::Tensor y = m.norm_out_norm(m.norm_final(x)) * (1 + shift_scale[1]) + shift_scale[0];
    at::Tensor patches = m.proj_out(y);  // [B, N, ...]
    if (rows.group != nullptr) {
        patches = nn::all_rows(patches, rows).narrow(1, text_rows, num_video);
    }
    output.sample = m.unpatchify(patches, latents.sizes());
    return output;
}

nn::TokenLayout CogVideoXTransformer::layout(std::int64_t frames, std::int64_t height,
                                             std::int64_t width, std::int64_t text_tokens) const {
    const std::int64_t p = impl_->config.patch_size;
    return {nn::TokenLayout::Attention::kJoint, text_tokens, frames / impl_->patch_frames(),
            height / p, width / p};
}

double CogVideoXTransformer::training_flops(const nn::TokenLayout& layout) const {
    const auto rows = static_cast<double>(layout.num_queries());
    const auto width = static_cast<double>(impl_->config.width());
    // Forward 24 S D^2 for the linears and 4 S^2 D for attention; backward the linears' input
    // gradients, and twice attention.
    return static_cast<double>(num_blocks()) *
           (48.0 * rows * width * width + 12.0 * rows * rows * width);
}

std::int64_t CogVideoXTransformer::num_blocks() const {
    return static_cast<std::int64_t>(impl_->blocks.size());
}

std::int64_t CogVideoXTransformer::in_channels() const {
    return impl_->config.in_channels;
}

at::ScalarType CogVideoXTransformer::dtype() const {
    return impl_->text_proj.weight.scalar_type();
}

at::Device CogVideoXTransformer::device() const {
    return impl_->text_proj.weight.device();
}

nn::Linear& CogVideoXTransformer::input_projection() {
    return impl_->proj;
}

std::map<std::string, nn::Linear*> CogVideoXTransformer::adaptable_linears() {
    std::map<std::string, nn::Linear*> linears;
    for (std::size_t i = 0; i < impl_->blocks.size(); ++i) {
        CogVideoXBlock& block = impl_->blocks[i];
        const std::string prefix = "transformer_blocks." + std::to_string(i) + ".attn1.";
        linears[prefix + "to_q"] = &block.attn1.to_q;
        linears[prefix + "to_k"] = &block.attn1.to_k;
        linears[prefix + "to_v"] = &block.attn1.to_v;
        linears[prefix + "to_out.0"] = &block.attn1.to_out;
    }
    linears["patch_embed.proj"] = &impl_->proj;
    return linears;
}

void CogVideoXTransformer::widen_input(std::int64_t channels) {
    Impl& m = *impl_;
    const std::int64_t added = channels - m.config.in_channels;
    TORCH_CHECK(added >= 0, "widen_input to ", channels, " channels from ", m.config.in_channels);
    if (added == 0) {
        return;
    }
    // Channels are the slowest of a patch's columns, in the convolution and in the temporal
    // patches' linear alike.
    std::vector<std::int64_t> shape = m.proj.weight.sizes().vec();
    shape[1] = shape[1] / m.config.in_channels * added;
    m.proj.weight = at::cat({m.proj.weight, at::zeros(shape, m.proj.weight.options())}, 1);
    m.proj.added_features += m.proj.weight[0].numel() / channels * added;
    m.config.in_channels = channels;
}

const CogVideoXConfig& CogVideoXTransformer::config() const {
    return impl_->config;
}

std::unique_ptr<CogVideoXTransformer> load_cogvideox(const std::filesystem::path& model_directory,
                                                     at::ScalarType dtype, at::Device device,
                                                     std::unique_ptr<BlockWeights> block_weights) {
    const std::filesystem::path directory = model_directory / "transformer";
    const CogVideoXConfig config = CogVideoXConfig::from_file(directory / "config.json");
    tensor_io::FileWeights weights(directory, "diffusion_pytorch_model", dtype, device);
    return std::make_unique<CogVideoXTransformer>(config, weights, std::move(block_weights));
}

}  // namespace matrix::models
