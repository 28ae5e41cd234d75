#include "cli/samples/samples_observer.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/pictures/about_run.h"
#include "cli/sample_source.h"
#include "cli/samples/clip_video.h"
#include "cli/samples/comparison.h"
#include "matrix/core/signals.h"
#include "matrix/log/log.h"
#include "matrix/lora/export.h"
#include "matrix/lora/stand_in.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"
#include "matrix/models/cogvideox.h"
#include "matrix/tensor_io/weights.h"

namespace matrix::cli::samples {
namespace {

namespace fs = std::filesystem;

/// Of a video below videos/, fit for file names.
std::string file_stem(const std::string& video) {
    std::string stem = fs::path(video).replace_extension().string();
    if (stem.starts_with("videos/")) {
        stem.erase(0, 7);
    }
    std::ranges::replace(stem, '/', '_');
    return stem;
}

fs::path directory_of(const RunConfig& config, std::int64_t step) {
    char name[32];
    std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
    return fs::path(config.output) / "samples" / name;
}

/// The model directory's own input projection, with no weight for channels that the run added.
lora::Adapter base_projection(const RunConfig& config, models::Backbone& backbone) {
    lora::Adapter base;
    if (config.lora.input_projection != "full") {
        return base;
    }
    const nn::Linear& projection = backbone.input_projection();
    std::vector<std::int64_t> shape = projection.weight.sizes().vec();
    const std::int64_t columns = shape[1];
    tensor_io::FileWeights weights(fs::path(config.model.path) / "transformer",
                                   "diffusion_pytorch_model", at::kFloat, at::kCPU);
    const auto base_config = models::CogVideoXConfig::from_file(fs::path(config.model.path) /
                                                                "transformer" / "config.json");
    shape[1] = columns / backbone.in_channels() * base_config.in_channels;
    at::Tensor weight = weights.take("patch_embed.proj.weight", shape);
    std::vector<std::int64_t> padding(2 * (weight.dim() - 1), 0);
    padding.back() = columns - shape[1];
    base.projection_weight = at::constant_pad_nd(weight, padding);
    if (projection.bias.defined()) {
        base.projection_bias = weights.take("patch_embed.proj.bias", projection.bias.sizes());
    }
    return base;
}

void write_mp4(const fs::path& path, const at::Tensor& frames, double frames_per_second) {
    media::VideoWriter writer(path, frames.size(2), frames.size(1), frames_per_second);
    for (const at::Tensor& frame : frames.unbind()) {
        writer.write(frame);
    }
    writer.finish();
}

}  // namespace

SamplesObserver::SamplesObserver(const RunConfig& config, const train::RunParts& parts,
                                 const data_cache::SampleSource* held_out)
    : config_(config),
      parts_(parts),
      clips_(held_out != nullptr ? *held_out : parts.samples),
      data_(held_out != nullptr ? held_out_data(config) : config.data),
      base_(base_projection(config, parts.backbone)) {}

lora::Adapter SamplesObserver::exported() const {
    const fs::path directory = fs::path(config_.output) / "samples" /
                               (".adapter-rank-" + std::to_string(parts_.ranks.all.rank()));
    lora::export_adapter(lora::collect(parts_.backbone, parts_.adapter_info), directory);
    lora::Adapter adapter = lora::read_adapter(directory);
    std::error_code ignored;
    fs::remove_all(directory, ignored);
    return adapter;
}

void SamplesObserver::after_step(std::int64_t step, nlohmann::json&, const nlohmann::json&) {
    const std::int64_t every = config_.validation.samples.every_steps;
    if (step % every == 0 || step == config_.train.steps) {
        sample(step);
    }
}

void SamplesObserver::sample(std::int64_t step) {
    const bool together = parts_.ranks.forward_together();
    const int rank = parts_.ranks.all.rank(), world_size = parts_.ranks.all.world_size();
    const std::string what = "sampling videos, step " + std::to_string(step);
    parts_.ranks.all.set_phase(what);
    // A rank that stops alone would leave the others inside a forward.
    const auto go_on = [&] { return together || !stop_signal(); };
    const std::int64_t count = std::min(config_.validation.samples.clips, clips_.size());
    const fs::path directory = directory_of(config_, step);
    std::optional<lora::Adapter> adapter;
    for (std::int64_t i = 0; i < count && go_on(); ++i) {
        const bool writes = together ? parts_.ranks.is_main() : i % world_size == rank;
        if (!together && !writes) {
            continue;
        }
        if (!adapter) {
            adapter = exported();
        }
        const data_cache::EncodedSample clip =
            clips_.get(i, static_cast<std::uint64_t>(config_.train.seed), 0);
        const auto make = [&](const lora::Adapter& with) {
            const lora::StandIn stand_in(parts_.backbone, with);
            return sample_latents(clip, clips_.empty_prompt(), config_, parts_, go_on);
        };
        if (!base_videos_.contains(i)) {
            const auto latents = make(base_);
            if (!latents) {
                break;
            }
            base_videos_[i] = writes ? decode(*latents, config_, parts_) : at::Tensor();
        }
        const auto latents = make(*adapter);
        if (!latents) {
            break;
        }
        if (writes) {
            const Source source = read_source(data_, clip.name);
            const Comparison videos{clip.name, source.prompt, source.frames, base_videos_[i],
                                    decode(*latents, config_, parts_)};
            const double fps = parts_.rules.temporal_patch > 1 ? 16.0 : 8.0;
            const std::string stem = (directory / file_stem(clip.name)).string();
            write_mp4(stem + "-adapter.mp4", videos.adapter, fps);
            write_mp4(stem + ".mp4", side_by_side(videos), fps);
            media::write_png(stem + ".png",
                             contact_sheet(videos, pictures::about_run(config_), step));
            log::info("sample written to " + stem + ".mp4");
        }
    }
    parts_.ranks.all.meet(what);
}

}  // namespace matrix::cli::samples
