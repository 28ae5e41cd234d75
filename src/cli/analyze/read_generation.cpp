#include <ATen/ATen.h>

#include <chrono>

#include "cli/analyze/reading.h"
#include "matrix/core/signals.h"
#include "matrix/log/progress.h"
#include "matrix/media/video.h"
#include "matrix/pipeline/latents.h"

namespace matrix::cli::analyze {
namespace {

using Clock = std::chrono::steady_clock;

class GenerationReader final : public Reader {
public:
    GenerationReader(const Settings& settings, at::Device device, pipeline::VideoPipeline& pipeline)
        : settings_(settings), device_(device), pipeline_(pipeline) {}

    void encode_prompts(const at::Tensor& input_ids) override {
        // The last row is the negative prompt, which is empty.
        const text::T5Tokenizer tokenizer(std::filesystem::path(settings_.model) / "tokenizer");
        prompts_ = pipeline_.encode_prompts(at::cat({input_ids, tokenizer.input_ids({""})}));
    }

    [[nodiscard]] analysis::VideoRecord read(const AnalysedClip& clip, std::int64_t prompt,
                                             const std::filesystem::path& video) override {
        const analysis::AttentionRecorder recorder(clip.entities);
        analysis::RecordBuilder record({clip.row.video, clip.sample.prompt, clip.entities},
                                       pipeline_.rules().transformer.num_layers);
        log::Progress progress(video.stem().string(), settings_.steps);
        const auto done = [&](std::int64_t steps) {
            progress.update(steps);
            if (const auto signal = stop_signal()) {
                throw Stopped{*signal};
            }
        };
        const pipeline::AttentionListener listener = listen(recorder, record);
        const Clock::time_point start = Clock::now();
        const at::Tensor frames = pipeline_.generate(
            request_of(clip, prompt),
            pipeline::keyed_draws(static_cast<std::uint64_t>(settings_.seed)), done, &listener);
        cost_.seconds += std::chrono::duration<double>(Clock::now() - start).count();
        media::write_video(video, pipeline::to_bytes(frames),
                           pipeline::default_fps(pipeline_.rules()));
        return record.finish();
    }

    void load() override {}  // the pipeline does, for its first video

    [[nodiscard]] Cost cost() const override { return cost_; }

private:
    [[nodiscard]] pipeline::AttentionListener listen(const analysis::AttentionRecorder& recorder,
                                                     analysis::RecordBuilder& record) {
        const nn::Tap tap = timed(recorder.tap(device_), cost_.reading_seconds);
        pipeline::AttentionListener listener;
        for (std::int64_t layer = 0; layer < pipeline_.rules().transformer.num_layers; ++layer) {
            listener.taps[layer] = tap;
        }
        listener.heard = [&](std::size_t, std::int64_t timestep, const auto& tap_outputs) {
            record.add(timestep, recorder, tap_outputs);
        };
        return listener;
    }

    [[nodiscard]] pipeline::VideoRequest request_of(const AnalysedClip& clip,
                                                    std::int64_t prompt) const {
        pipeline::VideoRequest request;
        const at::Tensor& pixels = clip.sample.video;  // [3, T, H, W]
        request.size = {pixels.size(1), pixels.size(2), pixels.size(3)};
        if (pipeline_.takes_image()) {
            request.image = pixels.narrow(1, 0, 1);
        }
        if (pipeline_.takes_id_map()) {
            request.id_map = clip.sample.id_map.unsqueeze(1);
        }
        request.sampler = diffusion::sampler_of(pipeline_.scheduler());
        request.num_steps = settings_.steps;
        request.guidance.scale = settings_.guidance_scale;
        request.prompt = prompts_.narrow(0, prompt, 1);
        request.negative_prompt = prompts_.narrow(0, prompts_.size(0) - 1, 1);
        return request;
    }

    const Settings& settings_;
    at::Device device_;
    pipeline::VideoPipeline& pipeline_;
    at::Tensor prompts_;  // [n + 1, L, D_t]
    Cost cost_;
};

}  // namespace

std::unique_ptr<Reader> read_generation(const Settings& settings, at::Device device,
                                        pipeline::VideoPipeline& pipeline) {
    return std::make_unique<GenerationReader>(settings, device, pipeline);
}

}  // namespace matrix::cli::analyze
