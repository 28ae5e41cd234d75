#include "matrix/pipeline/video_pipeline.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "matrix/core/device_memory.h"
#include "matrix/core/error.h"
#include "matrix/core/random.h"
#include "matrix/core/shape.h"
#include "matrix/models/cogvideox.h"
#include "matrix/models/posterior.h"
#include "matrix/models/t5.h"
#include "matrix/models/vae.h"
#include "matrix/pipeline/latents.h"
#include "matrix/tensor_io/weights.h"

// Letters: T frames, H x W pixels, F latent frames, C latent channels, h x w latents.

namespace matrix::pipeline {
namespace {

namespace fs = std::filesystem;

using models::CogVideoXTransformer;
using models::VaeDecoder;
using models::VaeEncoder;

/// Input channels of the transformer under the adapter, which has to fit it: tried on a model
/// without memory.
std::int64_t channels_under(const std::optional<lora::Adapter>& adapter,
                            const models::CogVideoXConfig& config) {
    tensor_io::CountingWeights weights;
    CogVideoXTransformer model(config, weights);
    if (adapter) {
        lora::attach(model, *adapter, false);
    }
    return model.in_channels();
}

/// A part of the pipeline that is there while it is needed.
template <typename Part>
class Resident {
public:
    template <typename Load>
    Part& get(const Load& load) {
        if (!part_) {
            part_ = load();
        }
        return *part_;
    }
    void drop() {
        part_.reset();
        release_cached_memory();
    }

private:
    std::unique_ptr<Part> part_;
};

}  // namespace

Draws keyed_draws(std::uint64_t seed) {
    Draws draws;
    draws.image_posterior = [seed](at::IntArrayRef shape) {
        return keyed_normal(shape, seed, Purpose::kImagePosterior, 0);
    };
    draws.latents = [seed](at::IntArrayRef shape) {
        return keyed_normal(shape, seed, Purpose::kNoise, 0);
    };
    draws.step = [seed, num_draws = std::uint64_t{0}](at::IntArrayRef shape, std::size_t) mutable {
        return keyed_normal(shape, seed, Purpose::kSamplerNoise, num_draws++);
    };
    return draws;
}

struct VideoPipeline::Impl {
    explicit Impl(PipelineOptions given)
        : options(std::move(given)),
          rules(read_size_rules(options.model)),
          scheduler(diffusion::SchedulerConfig::from_file(options.model / "scheduler" /
                                                          "scheduler_config.json")),
          in_channels(channels_under(options.adapter, rules.transformer)) {}

    PipelineOptions options;
    SizeRules rules;
    diffusion::SchedulerConfig scheduler;
    std::int64_t in_channels;
    Resident<CogVideoXTransformer> transformer;
    Resident<VaeEncoder> encoder;
    Resident<VaeDecoder> decoder;

    [[nodiscard]] std::int64_t num_parts() const {
        return in_channels / rules.transformer.out_channels;
    }
    template <typename Part>
    void done_with(Resident<Part>& part) const {
        if (options.low_memory) {
            part.drop();
        }
    }
    [[nodiscard]] std::unique_ptr<CogVideoXTransformer> load_transformer() const;
    template <typename Half>
    [[nodiscard]] std::unique_ptr<Half> load_vae() const {
        tensor_io::FileWeights weights(options.model / "vae", "diffusion_pytorch_model",
                                       options.dtype, options.device);
        return std::make_unique<Half>(rules.vae, weights);
    }
    void check(const VideoRequest& request) const;
    [[nodiscard]] at::Tensor first_frame_latents(const at::Tensor& pixels, const LatentSize& size,
                                                 const Draws* draws);
    [[nodiscard]] Conditions conditions(const VideoRequest& request, const LatentSize& size,
                                        const Draws& draws);
};

std::unique_ptr<CogVideoXTransformer> VideoPipeline::Impl::load_transformer() const {
    auto model = models::load_cogvideox(options.model, options.dtype, options.device);
    if (options.adapter) {
        lora::attach(*model, *options.adapter, false, options.adapter_strength);
    }
    return model;
}

void VideoPipeline::Impl::check(const VideoRequest& request) const {
    const VideoSize& size = request.size;
    std::vector<std::string> faults = check_size(size, rules);
    const std::vector<std::int64_t> pixels = {3, 1, size.height_px, size.width_px};
    const auto condition = [&](const char* name, const at::Tensor& tensor, bool taken) {
        if (tensor.defined() && !taken) {
            faults.push_back(std::string(name) + ": the model has no channels for it");
        } else if (tensor.defined()) {
            expect_shape(tensor, pixels, name);
        }
    };
    condition("image", request.image, num_parts() > 1);
    condition("ID map", request.id_map, num_parts() > 2);
    if (num_parts() > 1 && !request.image.defined()) {
        faults.emplace_back("image: missing, and the model makes videos from one");
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
}

/// [3, 1, H, W] to scaled latents [1, F, C, h, w] that are zero behind the first frame: a sample of
/// the posterior, or its mean without `draws`.
at::Tensor VideoPipeline::Impl::first_frame_latents(const at::Tensor& pixels,
                                                    const LatentSize& size, const Draws* draws) {
    const VaeEncoder& vae = encoder.get([&] { return load_vae<VaeEncoder>(); });
    const at::Tensor moments =
        vae.encode(pixels.unsqueeze(0).to(options.device, options.dtype), options.vae_tiling)
            .squeeze(0);  // [2C, 1, h, w]
    const at::Tensor mean = models::posterior_mean(moments);
    const at::Tensor latents =
        draws != nullptr ? models::sample_posterior(moments, draws->image_posterior(mean.sizes()))
                         : mean;
    return first_frame_condition(latents, size.num_frames, rules.vae);
}

Conditions VideoPipeline::Impl::conditions(const VideoRequest& request, const LatentSize& size,
                                           const Draws& draws) {
    Conditions result;
    if (num_parts() > 1) {
        result.image_latents = first_frame_latents(request.image, size, &draws);
    }
    if (num_parts() > 2) {
        result.id_map_latents = request.id_map.defined()
                                    ? first_frame_latents(request.id_map, size, nullptr)
                                    : at::zeros_like(result.image_latents);
    }
    done_with(encoder);
    result.prompt = request.prompt.to(options.device, options.dtype);
    if (request.guidance.runs()) {
        result.negative_prompt = request.negative_prompt.to(options.device, options.dtype);
    }
    return result;
}

VideoPipeline::VideoPipeline(PipelineOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
VideoPipeline::~VideoPipeline() = default;

const SizeRules& VideoPipeline::rules() const {
    return impl_->rules;
}

const diffusion::SchedulerConfig& VideoPipeline::scheduler() const {
    return impl_->scheduler;
}

bool VideoPipeline::takes_image() const {
    return impl_->num_parts() > 1;
}

bool VideoPipeline::takes_id_map() const {
    return impl_->num_parts() > 2;
}

at::Tensor VideoPipeline::encode_prompts(const at::Tensor& input_ids) const {
    const PipelineOptions& options = impl_->options;
    at::Tensor embeddings;
    {
        const fs::path directory = options.model / "text_encoder";
        const auto config = models::T5Config::from_file(directory / "config.json");
        tensor_io::FileWeights weights(directory, "model", options.dtype, options.device);
        const models::T5Encoder encoder(config, weights);
        embeddings = encoder.forward(input_ids).cpu();
    }
    release_cached_memory();
    return embeddings;
}

at::Tensor VideoPipeline::generate(const VideoRequest& request, const Draws& draws,
                                   const std::function<void(std::int64_t steps)>& done,
                                   const AttentionListener* listener) {
    const at::NoGradGuard no_grad;
    Impl& m = *impl_;
    m.check(request);
    const LatentSize size = latent_size(request.size, m.rules);
    const Conditions conditions = m.conditions(request, size, draws);
    const auto on_device = [&](const at::Tensor& drawn) {
        return drawn.to(m.options.device, m.options.dtype);
    };
    const std::vector<std::int64_t> shape = {1, size.num_frames, m.rules.transformer.out_channels,
                                             size.height, size.width};
    Guidance guidance = request.guidance;
    if (guidance.perturbation.grounding.defined()) {
        guidance.perturbation.grounding = guidance.perturbation.grounding.to(m.options.device);
    }
    const diffusion::Sampler sampler(m.scheduler, request.sampler, request.num_steps);
    const CogVideoXTransformer& model = m.transformer.get([&] { return m.load_transformer(); });
    const at::Tensor latents = denoise(
        model, sampler, on_device(draws.latents(shape)), conditions, guidance,
        [&](std::size_t step) { return on_device(draws.step(shape, step)); }, done, listener);
    m.done_with(m.transformer);
    const at::Tensor video = decode_video(m.decoder.get([&] { return m.load_vae<VaeDecoder>(); }),
                                          latents.narrow(1, size.padding, shape[1] - size.padding),
                                          m.options.vae_tiling);
    m.done_with(m.decoder);
    return video;
}

}  // namespace matrix::pipeline
