#include "matrix/analysis/recorder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lora/adapters.h"
#include "matrix/analysis/record.h"
#include "matrix/pipeline/denoise.h"
#include "support/tensors.h"

// The whole attention matrix in float64, then one entity, frame and cell after the other: what the
// recorder must come to without ever holding it.

namespace matrix::analysis {
namespace {

struct Reference {
    at::Tensor probabilities;  // [S, S], the mean over heads
    nn::TokenLayout layout;

    Reference(const at::Tensor& q, const at::Tensor& k, const nn::TokenLayout& of) : layout(of) {
        const at::Tensor query = q[0].to(at::kDouble), key = k[0].to(at::kDouble);
        probabilities = (at::matmul(query, key.mT()) / std::sqrt(static_cast<double>(q.size(3))))
                            .softmax(-1)
                            .mean(0);
    }

    /// Mean over the rows or columns in `set`, or of those outside it, by video cell.
    [[nodiscard]] at::Tensor words(const at::Tensor& set) const {
        const at::Tensor p = probabilities.narrow(0, layout.video_begin(), layout.video_tokens());
        return mean_of(p.narrow(1, 0, layout.text_tokens).t(), set);
    }
    [[nodiscard]] at::Tensor tracks(const at::Tensor& set) const {
        const at::Tensor p = probabilities.narrow(0, layout.video_begin(), layout.frame_tokens());
        return mean_of(p.narrow(1, layout.video_begin(), layout.video_tokens()), set);
    }

private:
    [[nodiscard]] at::Tensor mean_of(const at::Tensor& rows, const at::Tensor& set) const {
        at::Tensor sum = at::zeros({layout.video_tokens()}, at::kDouble);
        double count = 0;
        for (std::int64_t i = 0; i < set.numel(); ++i) {
            if (set[i].item<bool>()) {
                sum += rows[i];
                ++count;
            }
        }
        return (sum / count).view({layout.frames, layout.grid_height, layout.grid_width});
    }
};

/// The eight metrics, cell by cell.
at::Tensor metrics(const at::Tensor& own, const at::Tensor& other, const at::Tensor& mask) {
    double sums[4] = {}, inside = 0;
    const at::Tensor a = own.flatten(), b = other.flatten(), m = mask.flatten();
    for (std::int64_t i = 0; i < m.numel(); ++i) {
        const bool in = m[i].item<bool>();
        inside += in ? 1 : 0;
        sums[in ? 0 : 1] += a[i].item<double>();
        sums[in ? 2 : 3] += b[i].item<double>();
    }
    const double outside = static_cast<double>(m.numel()) - inside;
    return at::tensor({sums[0], sums[1], sums[2], sums[3], sums[0] / inside, sums[1] / outside,
                       sums[2] / inside, sums[3] / outside},
                      at::kDouble);
}

Entity entity(const char* name, std::int64_t seed, const nn::TokenLayout& layout) {
    at::Generator generator = at::detail::createCPUGenerator();
    generator.set_current_seed(static_cast<std::uint64_t>(seed));
    Entity e;
    e.name = name;
    e.tokens = at::rand({layout.text_tokens}, generator).lt(0.4);
    e.tokens[1] = true;
    e.cells = at::rand({layout.frames, layout.grid_height, layout.grid_width}, generator).lt(0.3);
    e.cells[0][0][0] = true;
    return e;
}

void expect_reading(const LayerReading& reading, const std::vector<Entity>& entities,
                    const Reference& reference, double tolerance) {
    for (std::size_t i = 0; i < entities.size(); ++i) {
        const Entity& e = entities[i];
        const auto at = static_cast<std::int64_t>(i);
        const at::Tensor first = e.cells[0].flatten();
        const at::Tensor words = reference.words(e.tokens), tracks = reference.tracks(first);
        test::expect_close(reading.v2t[at], words, tolerance, "v2t map");
        test::expect_close(reading.v2v[at], tracks, tolerance, "v2v map");
        const at::Tensor other_words = reference.words(e.tokens.logical_not());
        const at::Tensor other_tracks = reference.tracks(first.logical_not());
        const auto close = [&](const at::Tensor& value, const at::Tensor& wanted,
                               const char* what) {
            EXPECT_TRUE(at::allclose(value, wanted, tolerance, tolerance * 1e-3, true))
                << what << " of " << e.name << ": " << value << " wanted " << wanted;
        };
        close(reading.v2t_scores[at], metrics(words, other_words, e.cells), "v2t");
        close(reading.v2v_scores[at][0], metrics(tracks, other_tracks, e.cells), "whole");
        const auto part = [](const at::Tensor& t, std::int64_t begin) {
            return t.narrow(0, begin, begin == 0 ? 1 : t.size(0) - 1);
        };
        close(reading.v2v_scores[at][1],
              metrics(part(tracks, 0), part(other_tracks, 0), part(e.cells, 0)), "first");
        close(reading.v2v_scores[at][2],
              metrics(part(tracks, 1), part(other_tracks, 1), part(e.cells, 1)), "cross");
    }
}

TEST(AttentionRecorder, IsTheMaterialisedMapsScores) {
    for (const auto& [text, frames, height, width, heads, dim] :
         {std::tuple{7, 3, 2, 3, 2, 8}, {5, 1, 3, 2, 1, 4}, {11, 4, 3, 5, 3, 16}}) {
        const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, text, frames, height,
                                     width};
        const std::int64_t rows = layout.num_queries();
        const at::Tensor q = lora::testing::values("q", {1, heads, rows, dim}) * 1.5;
        const at::Tensor k = lora::testing::values("k", {1, heads, rows, dim}) * 1.5;
        const std::vector<Entity> entities = {entity("id1", 1, layout), entity("verb1", 2, layout)};
        const AttentionRecorder recorder(entities);
        for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
            const at::Tensor query = q.to(dtype), key = k.to(dtype);
            const at::Tensor lse =
                (at::matmul(query, key.mT()) / std::sqrt(static_cast<double>(dim))).logsumexp(-1);
            const at::Tensor maps = recorder.tap(at::kCPU)({query, key, lse, layout});
            EXPECT_EQ(maps.scalar_type(), dtype);
            expect_reading(recorder.read(maps), entities, Reference(query, key, layout),
                           dtype == at::kFloat ? 1e-5 : 1e-12);
        }
    }
}

TEST(AttentionRecorder, WhatIsNotThereHasNoScore) {
    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, 6, 2, 2, 2};
    Entity mute = entity("id1", 1, layout), hidden = entity("id2", 2, layout),
           gone = entity("id3", 3, layout);
    mute.tokens.zero_();
    hidden.cells[0].zero_();
    gone.cells.zero_();
    const std::vector<Entity> entities = {mute, hidden, gone};
    const AttentionRecorder recorder(entities);
    const at::Tensor q = lora::testing::values("q", {1, 2, 14, 4});
    const at::Tensor lse = (at::matmul(q, q.mT()) / 2.0).logsumexp(-1);
    const LayerReading reading = recorder.read(recorder.tap(at::kCPU)({q, q, lse, layout}));
    EXPECT_TRUE(reading.v2t_scores[0].isnan().all().item<bool>()) << "no words";
    EXPECT_FALSE(reading.v2v_scores[0].isnan().all().item<bool>());
    EXPECT_TRUE(reading.v2v_scores[1].isnan().all().item<bool>()) << "no first-frame cells";
    EXPECT_EQ(reading.v2t_scores[2][kTpSum].item<double>(), 0) << "an empty mask scores 0";
    EXPECT_TRUE(std::isnan(reading.v2t_scores[2][kTpMean].item<double>()));
}

/// Queries and keys of every step and layer, as the listener's taps saw them.
struct Seen {
    at::Tensor query, key;
    nn::TokenLayout layout;
};

/// A whole sampling of a model, with guidance: every layer and step of the record is what the
/// materialised attention of the conditional half gives, and the video is the same as unheard.
TEST(Analysis, OfASamplingIsThatOfItsAttention) {
    const auto model = lora::testing::tiny_model();
    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, 4, 3, 2, 2};
    const std::vector<Entity> entities = {entity("id1", 5, layout), entity("verb1", 6, layout)};
    const AttentionRecorder recorder(entities);
    diffusion::SchedulerConfig config;
    config.rescale_betas_zero_snr = true;
    const diffusion::Sampler sampler(config, diffusion::SamplerKind::kDdim, 4);
    const at::Tensor noise = lora::testing::values("noise", {1, 3, 16, 4, 4});
    const pipeline::Conditions conditions = {lora::testing::values("image", {1, 3, 16, 4, 4}),
                                             {},
                                             lora::testing::values("prompt", {1, 4, 8}),
                                             lora::testing::values("negative", {1, 4, 8})};
    const auto draw = [&](std::size_t) { return at::Tensor(); };
    for (const bool batched : {true, false}) {
        const pipeline::Guidance guidance = {3.0, false, batched};
        std::vector<std::map<std::int64_t, Seen>> seen(4);
        std::size_t step = 0;
        RecordBuilder record({"a.mp4", "a prompt", entities}, 3);
        pipeline::AttentionListener listener;
        for (std::int64_t layer = 0; layer < 3; ++layer) {
            listener.taps[layer] = [&, layer](const nn::TapInput& input) {
                seen[step][layer] = {input.query.clone(), input.key.clone(), input.layout};
                return recorder.tap(at::kCPU)(input);
            };
        }
        listener.heard = [&](std::size_t number, std::int64_t timestep, const auto& outputs) {
            EXPECT_EQ(number, step);
            EXPECT_EQ(timestep, sampler.timesteps()[step]);
            record.add(timestep, recorder, outputs);
            ++step;
        };
        const at::Tensor heard =
            pipeline::denoise(*model, sampler, noise, conditions, guidance, draw, {}, &listener);
        test::expect_equal(heard,
                           pipeline::denoise(*model, sampler, noise, conditions, guidance, draw),
                           "latents");
        ASSERT_EQ(step, 4U);
        const VideoRecord result = record.finish();
        at::Tensor sum_v2t = at::zeros({2, 3, 3, 2, 2}, at::kDouble);
        for (std::int64_t s = 0; s < 4; ++s) {
            for (std::int64_t layer = 0; layer < 3; ++layer) {
                const Seen& at_layer = seen[static_cast<std::size_t>(s)][layer];
                ASSERT_EQ(at_layer.query.size(0), 1) << "the conditional half alone";
                const Reference reference(at_layer.query, at_layer.key, at_layer.layout);
                for (std::int64_t e = 0; e < 2; ++e) {
                    const Entity& of = entities[static_cast<std::size_t>(e)];
                    const at::Tensor words = reference.words(of.tokens);
                    const at::Tensor tracks = reference.tracks(of.cells[0].flatten());
                    sum_v2t[e][layer] += words;
                    const double wanted_v2t = words.masked_select(of.cells).sum().item<double>();
                    const double wanted_v2v = tracks.masked_select(of.cells).sum().item<double>();
                    EXPECT_NEAR(result.aas(false)[e][s][layer].item<double>(), wanted_v2t,
                                1e-5 * wanted_v2t);
                    EXPECT_NEAR(result.aas(true)[e][s][layer].item<double>(), wanted_v2v,
                                1e-5 * wanted_v2v);
                }
            }
        }
        test::expect_close(result.v2t, sum_v2t / 4, 1e-5, "step-averaged maps");
    }
}

}  // namespace
}  // namespace matrix::analysis
