#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/probe/parts.h"
#include "matrix/core/error.h"
#include "matrix/lora/adapter.h"
#include "matrix/media/geometry.h"
#include "matrix/pipeline/video_pipeline.h"
#include "matrix/text/t5_tokenizer.h"

namespace matrix::cli::probe {
namespace {

/// Draws from the input file, in the shapes that the pipeline asks for.
pipeline::Draws draws_from(const Inputs& in, bool dpm, std::int64_t num_steps) {
    pipeline::Draws draws;
    draws.image_posterior = [&in](at::IntArrayRef shape) {
        return in.floating("image_noise", shape, at::kFloat);
    };
    draws.latents = [&in](at::IntArrayRef shape) {
        return in.floating("latents", shape, at::kFloat);
    };
    std::optional<std::size_t> last;
    draws.step = [&in, dpm, num_steps, last](at::IntArrayRef shape, std::size_t step) mutable {
        TORCH_CHECK(dpm, "DDIM draws nothing");
        std::vector<std::int64_t> all = shape.vec();
        all.insert(all.begin(), num_steps);
        const bool second = last == step;
        last = step;
        return in.floating(second ? "noise2" : "noise1", all,
                           at::kFloat)[static_cast<std::int64_t>(step)];
    };
    return draws;
}

/// A [h, w, 3] uint8 image of any size as the pipeline takes it.
at::Tensor pixels_of(const Inputs& in, const std::string& name, const pipeline::VideoSize& size) {
    const at::Tensor image = in.integers(name, {-1, -1, 3}, at::kByte).cpu();
    if (image.numel() == 0) {
        in.fail(name, "is empty");
    }
    return media::to_model_range(
        media::resize_lanczos(image, size.height_px, size.width_px).unsqueeze(0));
}

}  // namespace

Result run_generate(const Request& request) {
    pipeline::PipelineOptions options;
    options.model = request.model;
    options.dtype = request.dtype();
    options.device = request.device();
    options.vae_tiling = request.tiling;
    if (!request.adapter.empty()) {
        options.adapter = lora::read_adapter(request.adapter);
    }
    pipeline::VideoPipeline pipeline(options);
    const Inputs in(request);
    pipeline::VideoRequest video;
    video.size = {request.frames, request.height, request.width};
    if (const auto faults = check_size(video.size, pipeline.rules()); !faults.empty()) {
        std::vector<std::string> flags;
        for (const std::string& fault : faults) {
            flags.push_back("--" + fault);
        }
        throw UsageError(std::move(flags));
    }
    if (request.steps < 1 || request.steps > pipeline.scheduler().num_train_timesteps) {
        throw UsageError("--steps: " + std::to_string(request.steps) + " is outside 1.." +
                         std::to_string(pipeline.scheduler().num_train_timesteps));
    }
    const bool dpm = request.scheduler == "dpm";
    video.sampler = dpm ? diffusion::SamplerKind::kDpm : diffusion::SamplerKind::kDdim;
    video.num_steps = request.steps;
    video.guidance = {request.guidance, request.dynamic_cfg};
    Result result;
    if (pipeline.takes_image()) {
        video.image = pixels_of(in, "image", video.size);
        result.outputs["pixels"] = video.image;
    }
    if (pipeline.takes_id_map()) {
        video.id_map = media::to_model_range(
            in.integers("id_map", {video.size.height_px, video.size.width_px, 3}, at::kByte)
                .cpu()
                .unsqueeze(0));
    }
    const text::T5Tokenizer tokenizer(request.component("tokenizer"));
    const at::Tensor prompts =
        pipeline.encode_prompts(tokenizer.input_ids({request.prompt.value_or(""), ""}));
    video.prompt = prompts.narrow(0, 0, 1);
    video.negative_prompt = prompts.narrow(0, 1, 1);
    result.outputs["video"] = pipeline.generate(video, draws_from(in, dpm, request.steps));
    return result;
}

}  // namespace matrix::cli::probe
