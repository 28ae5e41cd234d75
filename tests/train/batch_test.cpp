#include "matrix/train/batch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "matrix/core/random.h"
#include "support/tensors.h"
#include "train/clips.h"

namespace matrix {
namespace {

using train::Batch;
using train::BatchRules;

Batch batch_of(const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& numbers,
               const BatchRules& rules) {
    const test::Clips clips(8);
    std::vector<data_cache::EncodedSample> samples;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        samples.push_back(clips.get(rows[i], rules.seed, static_cast<std::uint64_t>(numbers[i])));
    }
    return train::make_batch(samples, numbers, clips.empty_prompt(), rules);
}

void expect_same(const Batch& a, const Batch& b) {
    test::expect_equal(a.latents, b.latents, "latents");
    test::expect_equal(a.noise, b.noise, "noise");
    test::expect_equal(a.timestep, b.timestep, "timestep");
    test::expect_equal(a.image_latents, b.image_latents, "image_latents");
    test::expect_equal(a.id_map_latents, b.id_map_latents, "id_map_latents");
    test::expect_equal(a.encoder_hidden_states, b.encoder_hidden_states, "encoder_hidden_states");
    test::expect_equal(a.supervision.token_mask, b.supervision.token_mask, "token_mask");
    test::expect_equal(a.supervision.query_mask, b.supervision.query_mask, "query_mask");
    test::expect_equal(a.supervision.masks, b.supervision.masks, "masks");
}

Batch element(const Batch& batch, std::int64_t i, std::int64_t interactions) {
    const auto at = [&](const at::Tensor& tensor) { return tensor.slice(0, i, i + 1); };
    const auto rows = [&](const at::Tensor& tensor) {
        return at(tensor).slice(1, 0, interactions);
    };
    Batch one;
    one.latents = at(batch.latents);
    one.noise = at(batch.noise);
    one.timestep = at(batch.timestep);
    one.image_latents = at(batch.image_latents);
    one.id_map_latents = at(batch.id_map_latents);
    one.encoder_hidden_states = at(batch.encoder_hidden_states);
    one.supervision = {rows(batch.supervision.token_mask), rows(batch.supervision.query_mask),
                       rows(batch.supervision.masks)};
    return one;
}

TEST(MakeBatch, DependsOnTheSampleNumberAlone) {
    BatchRules rules = test::id_map_rules();
    rules.image_dropout = rules.caption_dropout = rules.id_map_dropout = 0.5;
    for (std::int64_t number = 0; number < 12; number += 2) {
        const Batch two = batch_of({4, 3}, {number, number + 1}, rules);
        expect_same(batch_of({4}, {number}, rules), element(two, 0, 1));
        expect_same(batch_of({3}, {number + 1}, rules), element(two, 1, 2));
        EXPECT_EQ(two.sample_numbers, (std::vector<std::int64_t>{number, number + 1}));
        EXPECT_EQ(two.names, (std::vector<std::string>{"clip 4", "clip 3"}));
    }
}

TEST(MakeBatch, OtherNumbersAndSeedsDrawOtherValues) {
    BatchRules other = test::id_map_rules();
    other.seed = 6;
    const Batch a = batch_of({1}, {0}, test::id_map_rules());
    for (const Batch& b : {batch_of({1}, {1}, test::id_map_rules()), batch_of({1}, {0}, other)}) {
        EXPECT_FALSE(a.noise.equal(b.noise));
        EXPECT_FALSE(a.latents.equal(b.latents));
        EXPECT_NE(a.timestep.item<std::int64_t>(), b.timestep.item<std::int64_t>());
    }
    // Posterior sample and noise of one sample are different draws.
    EXPECT_FALSE(a.noise.equal(
        keyed_normal({16, 3, 4, 6}, 5, Purpose::kVideoPosterior, 0).transpose(0, 1).unsqueeze(0)));
}

TEST(MakeBatch, FollowsTheFormulas) {
    const BatchRules rules = test::id_map_rules();
    const Batch batch = batch_of({2}, {9}, rules);
    const data_cache::EncodedSample sample = test::Clips(8).get(2, rules.seed, 9);
    const auto posterior = [&](const at::Tensor& moments, Purpose purpose) {
        const auto parts = moments.chunk(2, 0);
        const at::Tensor noise = keyed_normal(parts[0].sizes(), rules.seed, purpose, 9);
        return ((parts[0] + (parts[1] * 0.5).exp() * noise) * 0.7).transpose(0, 1);  // [F, C, h, w]
    };
    test::expect_close(batch.latents[0], posterior(sample.video_moments, Purpose::kVideoPosterior),
                       1e-6, "latents");
    const at::Tensor image = posterior(sample.image_moments, Purpose::kImagePosterior);
    test::expect_close(batch.image_latents[0].slice(0, 0, 1), image, 1e-6, "image");
    test::expect_close(batch.id_map_latents[0][0], sample.id_map_mean.squeeze(1) * 0.7, 1e-6,
                       "id map");
    EXPECT_EQ(batch.image_latents[0].slice(0, 1).count_nonzero().item<std::int64_t>(), 0);
    EXPECT_EQ(batch.id_map_latents[0].slice(0, 1).count_nonzero().item<std::int64_t>(), 0);

    BatchRules inverted = rules;
    inverted.invert_scale_latents = true;
    const Batch divided = batch_of({2}, {9}, inverted);
    test::expect_equal(divided.latents, batch.latents, "latents");
    test::expect_close(divided.image_latents, batch.image_latents / 0.49, 1e-6, "image");
    test::expect_close(divided.id_map_latents, batch.id_map_latents / 0.49, 1e-6, "id map");
}

TEST(MakeBatch, ClampsTheLogVariance) {
    data_cache::EncodedSample sample = test::Clips(8).get(2, 5, 9);
    sample.video_moments.slice(0, 16).fill_(1e4);
    const Batch batch = train::make_batch({sample}, {9}, at::zeros({8, 20}), test::id_map_rules());
    EXPECT_TRUE(batch.latents.isfinite().all().item<bool>());
}

TEST(MakeBatch, PadsFramesInFrontForTemporalPatches) {
    BatchRules rules = test::id_map_rules();
    rules.temporal_patch = 2;
    const Batch batch = batch_of({2}, {9}, rules);
    for (const at::Tensor& tensor :
         {batch.latents, batch.image_latents, batch.id_map_latents, batch.noise}) {
        EXPECT_EQ(tensor.size(1), 4);
    }
    test::expect_equal(batch.latents[0][0], batch.latents[0][1], "repeated frame");
    for (const at::Tensor& tensor : {batch.image_latents, batch.id_map_latents}) {
        EXPECT_GT(tensor[0][0].count_nonzero().item<std::int64_t>(), 0);
        EXPECT_EQ(tensor[0].slice(0, 1).count_nonzero().item<std::int64_t>(), 0) << "one frame";
    }
    EXPECT_FALSE(batch.noise[0][0].equal(batch.noise[0][1])) << "every frame has its own noise";
}

TEST(MakeBatch, AClipWithoutMasksHasAZeroIdMap) {
    data_cache::EncodedSample sample = test::Clips(8).get(2, 5, 9);
    sample.id_map_mean = at::Tensor();
    const Batch batch = train::make_batch({sample}, {9}, at::zeros({8, 20}), test::id_map_rules());
    EXPECT_EQ(batch.id_map_latents.sizes(), batch.latents.sizes());
    EXPECT_EQ(batch.id_map_latents.count_nonzero().item<std::int64_t>(), 0);
    BatchRules rules = test::id_map_rules();
    rules.id_map = false;
    EXPECT_FALSE(
        train::make_batch({sample}, {9}, at::zeros({8, 20}), rules).id_map_latents.defined());
}

TEST(MakeBatch, ADroppedCaptionTakesSgaAlone) {
    BatchRules rules = test::id_map_rules();
    const Batch plain = batch_of({1, 2}, {0, 1}, rules);
    rules.caption_dropout = 1.0;
    const Batch dropped = batch_of({1, 2}, {0, 1}, rules);
    EXPECT_EQ(dropped.captions_dropped, 2);
    EXPECT_EQ(dropped.images_dropped + dropped.id_maps_dropped, 0);
    EXPECT_TRUE(dropped.encoder_hidden_states.eq(-1).all().item<bool>());
    EXPECT_EQ(dropped.supervision.token_mask.count_nonzero().item<std::int64_t>(), 0);
    test::expect_equal(dropped.supervision.query_mask, plain.supervision.query_mask, "query_mask");
    test::expect_equal(dropped.supervision.masks, plain.supervision.masks, "masks");
    test::expect_equal(dropped.image_latents, plain.image_latents, "image");
    test::expect_equal(dropped.noise, plain.noise, "noise");
}

TEST(MakeBatch, ADroppedImageTakesBothTerms) {
    BatchRules rules = test::id_map_rules();
    const Batch plain = batch_of({1, 2}, {0, 1}, rules);
    rules.image_dropout = 1.0;
    const Batch dropped = batch_of({1, 2}, {0, 1}, rules);
    EXPECT_EQ(dropped.images_dropped, 2);
    EXPECT_EQ(dropped.image_latents.count_nonzero().item<std::int64_t>(), 0);
    EXPECT_EQ(dropped.supervision.token_mask.count_nonzero().item<std::int64_t>(), 0);
    EXPECT_EQ(dropped.supervision.query_mask.count_nonzero().item<std::int64_t>(), 0);
    test::expect_equal(dropped.id_map_latents, plain.id_map_latents,
                       "the ID map is dropped independently");
    test::expect_equal(dropped.encoder_hidden_states, plain.encoder_hidden_states, "prompt");
}

TEST(MakeBatch, DropsIndependentlyAtTheRatesAsked) {
    BatchRules rules = test::id_map_rules();
    rules.image_dropout = 0.25;
    rules.caption_dropout = 0.5;
    rules.id_map_dropout = 0.25;
    std::int64_t images = 0, captions = 0, id_maps = 0, together = 0;
    constexpr std::int64_t kDraws = 400;
    for (std::int64_t number = 0; number < kDraws; ++number) {
        const Batch batch = batch_of({2}, {number}, rules);
        images += batch.images_dropped;
        captions += batch.captions_dropped;
        id_maps += batch.id_maps_dropped;
        together += batch.images_dropped * batch.id_maps_dropped;
        EXPECT_EQ(batch.id_map_latents.count_nonzero().item<std::int64_t>() == 0,
                  batch.id_maps_dropped == 1);
    }
    // Fixed by the seed; the bounds are four standard deviations.
    EXPECT_NEAR(static_cast<double>(images) / kDraws, 0.25, 0.09);
    EXPECT_NEAR(static_cast<double>(captions) / kDraws, 0.5, 0.1);
    EXPECT_NEAR(static_cast<double>(id_maps) / kDraws, 0.25, 0.09);
    EXPECT_NEAR(static_cast<double>(together) / kDraws, 0.0625, 0.05);
}

TEST(MakeBatch, TimestepsCoverTheirRange) {
    BatchRules rules = test::id_map_rules();
    rules.num_timesteps = 3;
    std::vector<int> seen(3, 0);
    for (std::int64_t number = 0; number < 60; ++number) {
        ++seen.at(
            static_cast<std::size_t>(batch_of({2}, {number}, rules).timestep.item<std::int64_t>()));
    }
    EXPECT_GT(*std::min_element(seen.begin(), seen.end()), 8);
}

TEST(SampleOrder, IsAPermutationOfEveryEpoch) {
    train::SampleOrder order(7, 42);
    std::vector<std::vector<std::int64_t>> epochs;
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
        std::vector<std::int64_t> rows;
        for (std::int64_t i = 0; i < 7; ++i) {
            rows.push_back(order.row(7 * epoch + i));
        }
        epochs.push_back(rows);
        std::sort(rows.begin(), rows.end());
        std::vector<std::int64_t> all(7);
        std::iota(all.begin(), all.end(), 0);
        EXPECT_EQ(rows, all) << "epoch " << epoch;
    }
    EXPECT_NE(epochs[0], epochs[1]);
    train::SampleOrder again(7, 42), other(7, 43);
    bool differs = false;
    for (const std::int64_t number : {20, 3, 14, 0, 27, 6}) {  // out of order, from anywhere
        const std::int64_t expected =
            epochs[static_cast<std::size_t>(number / 7)][static_cast<std::size_t>(number % 7)];
        EXPECT_EQ(again.row(number), expected);
        differs |= other.row(number) != expected;
    }
    EXPECT_TRUE(differs);
}

}  // namespace
}  // namespace matrix
