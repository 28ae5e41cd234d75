#include "cli/samples/samples_observer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <system_error>

#include "cli/pictures/about_run.h"
#include "cli/pictures/clips.h"
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
#include "matrix/pipeline/video_size.h"
#include "matrix/tensor_io/weights.h"
#include "matrix/train/checkpoint.h"

namespace matrix::cli::samples {
namespace {

namespace fs = std::filesystem;

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

void SamplesObserver::after_saving(std::int64_t step) {
    const std::int64_t every = config_.validation.samples.every_steps;
    if (step % every == 0 || step == config_.train.steps) {
        sample(step);
    }
}

bool SamplesObserver::any_rank_stops(const std::string& what) const {
    at::Tensor stops = at::full({1}, stop_signal() ? 1 : 0,
                                at::TensorOptions(at::kInt).device(parts_.ranks.all.device()));
    parts_.ranks.all.all_reduce(stops, distributed::ReduceOp::kMax, what)->wait();
    return stops.item<int>() != 0;
}

std::optional<at::Tensor> SamplesObserver::latents_with(
    const lora::Adapter& adapter, const data_cache::EncodedSample& clip) const {
    // A rank that stops alone would leave the others inside a forward.
    const auto go_on = [&] { return parts_.ranks.sharded || !stop_signal(); };
    const lora::StandIn stand_in(parts_.backbone, adapter);
    return sample_latents(clip, clips_.empty_prompt(), config_, parts_, go_on);
}

void SamplesObserver::write(std::int64_t clip_index, const data_cache::EncodedSample& clip,
                            const at::Tensor& latents, std::int64_t step) const {
    const Source source = read_source(data_, clip.name);
    const Comparison videos{clip.name, source.prompt, source.frames, base_videos_.at(clip_index),
                            decode(latents, config_, parts_)};
    const double fps = pipeline::default_fps(pipeline::read_size_rules(config_.model.path));
    const fs::path directory = fs::path(config_.output) / "samples" /
                               train::checkpoint_directory(config_.output, step).filename();
    const std::string stem =
        (directory / (std::to_string(clip_index) + "-" + pictures::stem_of(clip.name))).string();
    media::write_video(stem + "-adapter.mp4", videos.adapter, fps);
    media::write_video(stem + ".mp4", side_by_side(videos), fps);
    std::string about = pictures::about_run(config_);
    if (pictures::has_random_weights(config_)) {
        about +=
            "\nRandom weights make no picture: that the adapter changes the video is all that "
            "shows here.";
    }
    media::write_png(stem + ".png", contact_sheet(videos, about, step));
    log::info("sample written to " + stem + ".mp4");
}

void SamplesObserver::sample(std::int64_t step) {
    const bool together = parts_.ranks.sharded;
    distributed::Communicator& all = parts_.ranks.all;
    const std::string what = "sampling videos, step " + std::to_string(step);
    all.set_phase(what);
    if (any_rank_stops(what)) {
        return;
    }
    const std::int64_t count = std::min(config_.validation.samples.clips, clips_.size());
    std::optional<lora::Adapter> adapter;
    for (std::int64_t i = 0; i < count; ++i) {
        if (together && any_rank_stops(what)) {
            break;
        }
        const bool writes = together ? parts_.ranks.is_main() : i % all.world_size() == all.rank();
        if (!together && !writes) {
            continue;
        }
        if (!adapter) {
            adapter = exported();
        }
        const data_cache::EncodedSample clip =
            clips_.get(i, static_cast<std::uint64_t>(config_.train.seed), 0);
        const bool has_base = base_videos_.contains(i);
        const auto base = has_base ? std::optional(at::Tensor()) : latents_with(base_, clip);
        const auto with_adapter = base ? latents_with(*adapter, clip) : std::nullopt;
        if (!with_adapter) {
            break;
        }
        if (writes && !has_base) {
            base_videos_[i] = decode(*base, config_, parts_);
        } else if (!has_base) {
            base_videos_[i] = at::Tensor();
        }
        if (writes) {
            write(i, clip, *with_adapter, step);
        }
        if (together) {
            all.meet(what);
        }
    }
    all.meet(what);
}

}  // namespace matrix::cli::samples
