#pragma once

#include <map>
#include <string>
#include <vector>

#include "analysis/reference.h"
#include "matrix/analysis/record.h"
#include "matrix/diffusion/sampler.h"
#include "matrix/pipeline/denoise.h"

namespace matrix::analysis::testing {

struct Sampling {
    const models::Backbone& model;
    std::int64_t num_layers;
    diffusion::SchedulerConfig scheduler;
    std::int64_t num_steps;
    at::Tensor noise;  // [1, F, C, h, w]
    pipeline::Conditions conditions;
    pipeline::Guidance guidance;
};

/// Runs it twice, heard and unheard: every layer and step that was read is what the materialised
/// attention of the conditional half gives, the record holds just that, and the video is the same.
inline void expect_reads_its_attention(const Sampling& of, const std::vector<Entity>& entities,
                                       double tolerance) {
    const diffusion::Sampler sampler(of.scheduler, diffusion::SamplerKind::kDdim, of.num_steps);
    const AttentionRecorder recorder(entities);
    RecordBuilder builder({"a.mp4", "a prompt", entities}, of.num_layers);
    std::map<std::int64_t, Reference> attention;               // by layer, of the step under way
    std::vector<at::Tensor> v2t_scores, v2v_scores, v2t, v2v;  // by step and layer
    pipeline::AttentionListener listener;
    for (std::int64_t layer = 0; layer < of.num_layers; ++layer) {
        listener.taps[layer] = [&, layer](const nn::TapInput& input) {
            EXPECT_EQ(input.query.size(0), 1) << "the conditional half alone";
            attention.insert_or_assign(layer, Reference(input.query, input.key, input.layout));
            return recorder.tap(at::kCPU)(input);
        };
    }
    listener.heard = [&](std::size_t step, std::int64_t timestep, const auto& outputs) {
        EXPECT_EQ(timestep, sampler.timesteps().at(step));
        for (std::int64_t layer = 0; layer < of.num_layers; ++layer) {
            SCOPED_TRACE("step " + std::to_string(step) + ", layer " + std::to_string(layer));
            const LayerReading reading = recorder.read(outputs.at(layer));
            expect_reading(reading, entities, attention.at(layer), tolerance);
            v2t_scores.push_back(reading.v2t_scores);
            v2v_scores.push_back(reading.v2v_scores);
            v2t.push_back(reading.v2t);
            v2v.push_back(reading.v2v);
        }
        builder.add(timestep, recorder, outputs);
    };
    const auto draw = [](std::size_t) { return at::Tensor(); };
    const auto sample = [&](const pipeline::AttentionListener* with) {
        return pipeline::denoise(of.model, sampler, of.noise, of.conditions, of.guidance, draw, {},
                                 with);
    };
    test::expect_equal(sample(&listener), sample(nullptr), "latents");
    ASSERT_EQ(v2t.size(), static_cast<std::size_t>(of.num_steps * of.num_layers));
    const VideoRecord record = builder.finish();
    const auto all = [&](const std::vector<at::Tensor>& readings) {  // [E, S, l, ...]
        return at::stack(readings, 1).unflatten(1, {of.num_steps, of.num_layers});
    };
    test::expect_equal(record.v2t_scores, all(v2t_scores), "v2t scores");
    test::expect_equal(record.v2v_scores, all(v2v_scores), "v2v scores");
    test::expect_close(record.v2t, all(v2t).mean(1), 1e-6, "step-averaged v2t maps");
    test::expect_close(record.v2v, all(v2v).mean(1), 1e-6, "step-averaged v2v maps");
}

}  // namespace matrix::analysis::testing
