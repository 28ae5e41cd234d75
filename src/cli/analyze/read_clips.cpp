#include <ATen/ATen.h>

#include <chrono>
#include <optional>

#include "cli/analyze/reading.h"
#include "matrix/core/error.h"
#include "matrix/core/transfer.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/lora/adapter.h"
#include "matrix/models/cogvideox.h"
#include "matrix/models/posterior.h"
#include "matrix/prepare/encoders.h"
#include "matrix/train/batch.h"
#include "matrix/train/step.h"

namespace matrix::cli::analyze {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// An objective that listens to all layers and asks nothing of the model.
class Listening final : public alignment::Objective {
public:
    Listening(const analysis::AttentionRecorder& recorder, nn::Tap tap,
              analysis::RecordBuilder& record, std::int64_t num_layers)
        : recorder_(recorder), tap_(std::move(tap)), record_(record), num_layers_(num_layers) {}

    void at_timestep(std::int64_t timestep) { timestep_ = timestep; }

    [[nodiscard]] std::map<std::int64_t, nn::Tap> taps(
        const alignment::Supervision&) const override {
        std::map<std::int64_t, nn::Tap> taps;
        for (std::int64_t layer = 0; layer < num_layers_; ++layer) {
            taps[layer] = tap_;
        }
        return taps;
    }

    [[nodiscard]] alignment::Evaluation evaluate(
        const std::map<std::int64_t, at::Tensor>& tap_outputs, const alignment::Supervision&,
        const nn::TokenLayout&, double, bool) override {
        record_.add(timestep_, recorder_, tap_outputs);
        return {};
    }
    [[nodiscard]] std::map<std::string, at::Tensor> parameters() const override { return {}; }

private:
    const analysis::AttentionRecorder& recorder_;
    nn::Tap tap_;
    analysis::RecordBuilder& record_;
    std::int64_t num_layers_;
    std::int64_t timestep_ = 0;
};

class ClipReader final : public Reader {
public:
    ClipReader(const Settings& settings, const pipeline::PipelineOptions& options,
               const pipeline::VideoPipeline& pipeline)
        : settings_(settings),
          options_(options),
          schedule_(pipeline.scheduler()),
          encoders_(prepare::model_encoders(options.model, options.dtype, options.device)) {
        const pipeline::SizeRules& size = pipeline.rules();
        rules_.seed = static_cast<std::uint64_t>(settings.seed);
        rules_.scaling_factor = size.vae.scaling_factor;
        rules_.invert_scale_latents = size.vae.invert_scale_latents;
        rules_.id_map = pipeline.takes_id_map();
        rules_.temporal_patch = size.transformer.patch_size_t.value_or(1);
        rules_.num_timesteps = schedule_.num_timesteps();
        num_layers_ = size.transformer.num_layers;
    }

    void encode_prompts(const at::Tensor& input_ids) override {
        prompts_ = encoders_.load_text()(input_ids);
    }

    [[nodiscard]] analysis::VideoRecord read(const AnalysedClip& clip, std::int64_t prompt,
                                             const std::filesystem::path&) override {
        const at::Tensor embedding = prompts_[prompt];
        const data_cache::EncodedSample sample = encode(clip.sample, embedding);
        const analysis::AttentionRecorder recorder(clip.entities);
        analysis::RecordBuilder record({clip.row.video, clip.sample.prompt, clip.entities},
                                       num_layers_);
        Listening listening(recorder, timed(recorder.tap(options_.device), cost_.reading_seconds),
                            record, num_layers_);
        for (const std::int64_t timestep : settings_.timesteps) {
            // Every noise level has the draws of its own sample number, for every model alike.
            train::Batch batch = train::make_batch({sample}, {timestep}, embedding, rules_);
            batch.timestep.fill_(timestep);
            listening.at_timestep(timestep);
            const Clock::time_point start = Clock::now();
            (void)train::run_batch(batch, *model_, schedule_, listening, {.with_gradients = false});
            cost_.seconds += seconds_since(start);
        }
        return record.finish();
    }

    [[nodiscard]] Cost cost() const override { return cost_; }

    void load() override {
        model_ = models::load_cogvideox(options_.model, options_.dtype, options_.device);
        if (options_.adapter) {
            lora::attach(*model_, *options_.adapter, false, options_.adapter_strength);
        }
        encode_video_ = encoders_.load_video();
    }

private:
    [[nodiscard]] at::Tensor moments(const at::Tensor& video, const std::string& name) const {
        at::Tensor moments = encode_video_(video);
        if (!moments.isfinite().all().item<bool>()) {
            throw RunError(name + ": the VAE gives values that are not finite");
        }
        return moments;
    }

    /// As training encodes it, but from the clean first frame, as in generation.
    [[nodiscard]] data_cache::EncodedSample encode(const data_source::RawSample& raw,
                                                   const at::Tensor& embedding) const {
        data_cache::EncodedSample sample;
        sample.name = raw.name;
        sample.video_moments = moments(raw.video, raw.name);
        sample.image_moments = moments(raw.video.narrow(1, 0, 1), raw.name);
        if (rules_.id_map) {
            sample.id_map_mean =
                models::posterior_mean(moments(raw.id_map.unsqueeze(1), raw.name)).contiguous();
        }
        sample.prompt = embedding;
        sample.token_mask = raw.token_mask;
        sample.query_mask = raw.query_mask;
        sample.masks = raw.masks;
        return sample;
    }

    const Settings& settings_;
    pipeline::PipelineOptions options_;
    diffusion::NoiseSchedule schedule_;
    prepare::Encoders encoders_;
    train::BatchRules rules_;
    std::int64_t num_layers_ = 0;
    at::Tensor prompts_;  // [n, L, D_t]
    std::unique_ptr<models::CogVideoXTransformer> model_;
    prepare::Encode encode_video_;
    Cost cost_;
};

}  // namespace

nn::Tap timed(nn::Tap tap, double& seconds) {
    const auto over_heads = tap.over_heads;
    return nn::Tap(
        [tap = std::move(tap), &seconds](const nn::TapInput& input) {
            wait_for(input.query.device());
            const Clock::time_point start = Clock::now();
            at::Tensor read = tap(input);
            wait_for(input.query.device());
            seconds += seconds_since(start);
            return read;
        },
        over_heads);
}

std::unique_ptr<Reader> read_clips(const Settings& settings,
                                   const pipeline::PipelineOptions& options,
                                   const pipeline::VideoPipeline& pipeline) {
    return std::make_unique<ClipReader>(settings, options, pipeline);
}

}  // namespace matrix::cli::analyze
