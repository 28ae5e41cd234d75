#include "cli/samples/clip_video.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>

#include "matrix/core/device_memory.h"
#include "matrix/core/error.h"
#include "matrix/core/random.h"
#include "matrix/core/shape.h"
#include "matrix/data_source/clip.h"
#include "matrix/data_source/sample.h"
#include "matrix/diffusion/sampler.h"
#include "matrix/log/log.h"
#include "matrix/models/posterior.h"
#include "matrix/models/vae.h"
#include "matrix/pipeline/denoise.h"
#include "matrix/pipeline/latents.h"
#include "matrix/pipeline/video_size.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::cli::samples {
namespace {

namespace fs = std::filesystem;

struct Interrupted {};

pipeline::LatentSize latent_size_of(const RunConfig& config, const pipeline::SizeRules& rules) {
    return pipeline::latent_size({config.data.frames, config.data.height, config.data.width},
                                 rules);
}

}  // namespace

std::optional<at::Tensor> sample_latents(const data_cache::EncodedSample& clip,
                                         const at::Tensor& empty_prompt, const RunConfig& config,
                                         const train::RunParts& parts,
                                         const std::function<bool()>& go_on) {
    const pipeline::SizeRules rules = pipeline::read_size_rules(config.model.path);
    const std::int64_t num_frames = latent_size_of(config, rules).num_frames;
    const auto seed = static_cast<std::uint64_t>(config.train.seed);
    const at::Tensor& moments =
        clip.image_clean_moments.defined() ? clip.image_clean_moments : clip.image_moments;
    const at::Tensor mean = models::posterior_mean(moments);  // [C, 1, h, w]
    const auto on_device = [&](const at::Tensor& tensor) {
        return tensor.to(parts.backbone.device(), parts.backbone.dtype());
    };
    pipeline::Conditions conditions;
    conditions.image_latents = on_device(pipeline::first_frame_condition(
        models::sample_posterior(moments,
                                 keyed_normal(mean.sizes(), seed, Purpose::kImagePosterior, 0)),
        num_frames, rules.vae));
    if (parts.rules.id_map) {
        conditions.id_map_latents = clip.id_map_mean.defined()
                                        ? on_device(pipeline::first_frame_condition(
                                              clip.id_map_mean, num_frames, rules.vae))
                                        : at::zeros_like(conditions.image_latents);
    }
    conditions.prompt = on_device(clip.prompt.unsqueeze(0));
    conditions.negative_prompt = on_device(empty_prompt.unsqueeze(0));
    const auto& settings = config.validation.samples;
    const diffusion::Sampler sampler(
        diffusion::SchedulerConfig::from_file(fs::path(config.model.path) / "scheduler" /
                                              "scheduler_config.json"),
        diffusion::SamplerKind::kDdim, settings.steps);
    const at::Tensor noise =
        on_device(keyed_normal(conditions.image_latents.sizes(), seed, Purpose::kNoise, 0));
    const auto done = [&](std::int64_t) {
        if (!go_on()) {
            throw Interrupted{};
        }
    };
    try {
        return pipeline::denoise(parts.backbone, sampler, noise, conditions,
                                 {settings.guidance_scale, false, false}, {}, done);
    } catch (const Interrupted&) {
        return std::nullopt;
    }
}

at::Tensor decode(const at::Tensor& latents, const RunConfig& config,
                  const train::RunParts& parts) {
    at::Tensor frames;
    {
        tensor_io::FileWeights weights(fs::path(config.model.path) / "vae",
                                       "diffusion_pytorch_model", parts.backbone.dtype(),
                                       parts.backbone.device());
        const pipeline::SizeRules rules = pipeline::read_size_rules(config.model.path);
        const models::VaeDecoder vae(rules.vae, weights);
        const std::int64_t padding = latent_size_of(config, rules).padding;
        frames = pipeline::decode_video(vae, latents.narrow(1, padding, latents.size(1) - padding),
                                        true);
    }
    release_cached_memory();
    return pipeline::to_bytes(frames);
}

Source read_source(const data_cache::DataConfig& data, const std::string& video) {
    Source source;
    try {
        const data_source::Manifest manifest = data_source::read_manifest(data.path);
        const auto row = std::ranges::find(manifest.rows, video, &data_source::Row::video);
        if (row == manifest.rows.end()) {
            throw RunError(manifest.file.string() + ": no longer names it");
        }
        source.prompt = data_source::prompt_text(*row, data);
        const at::Tensor frames = data_source::load_clip(*row, data, {true, false, false}).video;
        source.frames = pipeline::to_bytes(frames.transpose(0, 1).mul(0.5).add(0.5));
    } catch (const RunError& error) {
        log::info("samples: without the clip " + video + " itself: " + error.what());
    }
    return source;
}

}  // namespace matrix::cli::samples
