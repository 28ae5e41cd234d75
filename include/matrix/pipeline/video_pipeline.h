#pragma once

#include "matrix/diffusion/sampler.h"
#include "matrix/lora/adapter.h"
#include "matrix/pipeline/denoise.h"
#include "matrix/pipeline/video_size.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

namespace matrix::pipeline {

/// What a pipeline is made of.
struct PipelineOptions {
    std::filesystem::path model;  ///< a Hugging Face CogVideoX directory
    at::ScalarType dtype = at::kFloat;
    at::Device device = at::kCPU;
    std::optional<lora::Adapter> adapter;
    double adapter_strength = 1.0;
    /// Transformer and VAE are each held only while they work, and loaded anew for every video.
    bool low_memory = false;
    bool vae_tiling = false;
};

/// One video to make.
struct VideoRequest {
    VideoSize size;
    at::Tensor image;   ///< [3, 1, H, W] in [-1, 1]; undefined for a text-to-video model
    at::Tensor id_map;  ///< the same; undefined: as a clip without one in training, zero latents
    at::Tensor prompt;  ///< [1, L, text width], of `encode_prompts`
    at::Tensor negative_prompt;  ///< the same; undefined without guidance
    diffusion::SamplerKind sampler = diffusion::SamplerKind::kDdim;
    std::int64_t num_steps = 50;
    Guidance guidance;
};

/// Standard normal tensors in the order in which the reference draws them: the posterior of the
/// image's latents [C, 1, h, w], the latents [1, F, C, h, w], then `step`'s of the same shape.
struct Draws {
    std::function<at::Tensor(at::IntArrayRef shape)> image_posterior;
    std::function<at::Tensor(at::IntArrayRef shape)> latents;
    std::function<at::Tensor(at::IntArrayRef shape, std::size_t step)> step;
};

/// Draws keyed by `seed` alone: they depend neither on the device nor on videos made before.
[[nodiscard]] Draws keyed_draws(std::uint64_t seed);

/// `CogVideoXImageToVideoPipeline` (and, for models without image channels, `CogVideoXPipeline`) of
/// diffusers, 1.0 and 1.5, with adapters and the ID map of MATRIX. Every part is loaded when it is
/// first needed; the text encoder is gone when `encode_prompts` returns.
class VideoPipeline {
public:
    /// Reads the configs and fits the adapter to the model's shapes, without weights. RunError
    /// naming the file, field or tensor at fault.
    explicit VideoPipeline(PipelineOptions options);
    ~VideoPipeline();

    [[nodiscard]] const SizeRules& rules() const;
    [[nodiscard]] const diffusion::SchedulerConfig& scheduler() const;
    /// Whether the transformer has channels for them.
    [[nodiscard]] bool takes_image() const;
    [[nodiscard]] bool takes_id_map() const;

    /// input_ids [n, L] int64 to [n, L, text width] on the CPU, in the compute dtype.
    [[nodiscard]] at::Tensor encode_prompts(const at::Tensor& input_ids) const;

    /// [T, 3, H, W] float32 in [0, 1] on the CPU. `done` is told the number of steps taken,
    /// `listener` what its taps gave at each. RunError for a size that `check_size` refuses, and
    /// for a condition that the model does not take.
    [[nodiscard]] at::Tensor generate(const VideoRequest& request, const Draws& draws,
                                      const std::function<void(std::int64_t steps)>& done = {},
                                      const AttentionListener* listener = nullptr);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace matrix::pipeline
