#include "matrix/pipeline/perturbation.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <cmath>

#include "matrix/kernels/attention.h"
#include "support/errors.h"
#include "support/tensors.h"

// What the perturbed pass leaves out, against the whole map in float64 with its entries set to
// zero. B batch, H heads, S joint rows, L text rows, N video rows, d head_dim.

namespace matrix::pipeline {
namespace {

constexpr std::int64_t kHeads = 3, kHeadDim = 8;

nn::TokenLayout layout_of(std::int64_t text, std::int64_t frames, std::int64_t height,
                          std::int64_t width) {
    return {nn::TokenLayout::Attention::kJoint, text, frames, height, width};
}

/// An attention layer's own part, as the model leaves it: heads behind rows in memory.
struct Layer {
    nn::TokenLayout layout;
    at::Tensor query, key, value;
    kernels::AttentionResult result;

    Layer(const nn::TokenLayout& shape, std::int64_t batch, at::ScalarType dtype = at::kFloat)
        : layout(shape) {
        at::manual_seed(shape.num_queries() * 10 + batch);
        const auto random = [&] {
            return (at::randn({batch, shape.num_queries(), kHeads, kHeadDim}, at::kDouble) * 1.5)
                .to(dtype)
                .transpose(1, 2);
        };
        query = random();
        key = random();
        value = random();
        result = kernels::attention(query, key, value, 1.0 / std::sqrt(kHeadDim));
    }
    [[nodiscard]] nn::AttentionEditInput input() const {
        return {query, key, value, result.log_sum_exp, result.output, layout};
    }
    /// [B, H, S, d] float64 of the whole map, times `kept` [S, S].
    [[nodiscard]] at::Tensor reference(const at::Tensor& kept) const {
        const at::Tensor map =
            at::softmax(at::matmul(query.to(at::kDouble), key.to(at::kDouble).mT()) /
                            std::sqrt(static_cast<double>(kHeadDim)),
                        -1);
        return at::matmul(map * kept.to(at::kDouble), value.to(at::kDouble));
    }
};

/// [S, S] bool: all but the entries [N or 1, L] of video queries and text keys.
at::Tensor kept_grounding(const nn::TokenLayout& layout, const at::Tensor& entries) {
    at::Tensor kept = at::ones({layout.num_queries(), layout.num_keys()}, at::kBool);
    kept.narrow(0, layout.video_begin(), layout.video_tokens())
        .narrow(1, 0, layout.text_tokens)
        .logical_and_(entries.logical_not());
    return kept;
}

/// [S, S] bool: all but video queries and video keys of different frames.
at::Tensor kept_frames(const nn::TokenLayout& layout) {
    at::Tensor kept = at::ones({layout.num_queries(), layout.num_keys()}, at::kBool);
    for (std::int64_t q = layout.video_begin(); q < layout.num_queries(); ++q) {
        for (std::int64_t k = layout.video_begin(); k < layout.num_keys(); ++k) {
            const auto frame = [&](std::int64_t row) {
                return (row - layout.video_begin()) / layout.frame_tokens();
            };
            kept[q][k] = frame(q) == frame(k);
        }
    }
    return kept;
}

/// Two regions that overlap and one of all frames, with tokens that overlap too: [N, L] bool.
at::Tensor overlapping(const nn::TokenLayout& layout) {
    at::Tensor entries = at::zeros({layout.video_tokens(), layout.text_tokens}, at::kBool);
    const auto add = [&](std::int64_t first, std::int64_t last, std::initializer_list<int> tokens) {
        for (const int token : tokens) {
            entries.narrow(0, first, last - first).select(1, token).fill_(true);
        }
    };
    const std::int64_t n = layout.video_tokens();
    add(0, n / 2 + 1, {1, 2});
    add(n / 3, n, {2, 4});
    add(0, n, {4});
    return entries;
}

const nn::TokenLayout kLayouts[] = {layout_of(5, 3, 2, 4), layout_of(7, 1, 3, 3),
                                    layout_of(6, 4, 1, 1), layout_of(23, 5, 6, 9)};

TEST(Perturbation, RemovesGroundingAsFromTheWholeMap) {
    for (const nn::TokenLayout& layout : kLayouts) {
        for (const std::int64_t batch : {1, 2}) {
            const Layer layer(layout, batch);
            const at::Tensor entries = overlapping(layout);
            test::expect_close(without_grounding(layer.input(), entries),
                               layer.reference(kept_grounding(layout, entries)), 1e-6, "regions");
            const at::Tensor tokens = entries.narrow(0, 0, 1);
            const at::Tensor free = without_grounding(layer.input(), tokens);
            test::expect_close(free, layer.reference(kept_grounding(layout, tokens)), 1e-6,
                               "all video queries");
            test::expect_equal(
                free, without_grounding(layer.input(), tokens.expand({layout.video_tokens(), -1})),
                "regions that hold all");
        }
    }
}

TEST(Perturbation, RemovesOtherFramesAsFromTheWholeMap) {
    for (const nn::TokenLayout& layout : kLayouts) {
        for (const std::int64_t batch : {1, 2}) {
            const Layer layer(layout, batch);
            test::expect_close(without_other_frames(layer.input()),
                               layer.reference(kept_frames(layout)), 1e-6, "output");
        }
    }
}

TEST(Perturbation, OfDoublesIsExact) {
    const nn::TokenLayout layout = kLayouts[0];
    const Layer layer(layout, 2, at::kDouble);
    const at::Tensor entries = overlapping(layout);
    test::expect_close(without_grounding(layer.input(), entries),
                       layer.reference(kept_grounding(layout, entries)), 1e-13, "cmg");
    test::expect_close(without_other_frames(layer.input()), layer.reference(kept_frames(layout)),
                       1e-13, "cag");
}

TEST(Perturbation, OfHalfPrecisionRoundsOnce) {
    const nn::TokenLayout layout = kLayouts[3];
    const Layer layer(layout, 1, at::kBFloat16);
    const at::Tensor entries = overlapping(layout);
    const at::Tensor cmg = without_grounding(layer.input(), entries);
    EXPECT_EQ(cmg.scalar_type(), at::kBFloat16);
    // bfloat16 has 8 bits; attention's own output is rounded before what is removed.
    test::expect_close(cmg, layer.reference(kept_grounding(layout, entries)), 1e-2, "cmg");
    const at::Tensor cag = without_other_frames(layer.input());
    EXPECT_EQ(cag.scalar_type(), at::kBFloat16);
    test::expect_close(cag, layer.reference(kept_frames(layout)), 1e-2, "cag");
}

TEST(Perturbation, WithoutTokensChangesNothing) {
    const nn::TokenLayout layout = kLayouts[0];
    const Layer layer(layout, 2);
    const at::Tensor none = at::zeros({layout.video_tokens(), layout.text_tokens}, at::kBool);
    test::expect_equal(without_grounding(layer.input(), none), layer.result.output, "output");
}

TEST(Perturbation, OfOneFrameHasNoOtherFrames) {
    const nn::TokenLayout layout = kLayouts[1];
    const Layer layer(layout, 2);
    test::expect_close(without_other_frames(layer.input()), layer.result.output, 1e-6, "output");
}

TEST(Perturbation, EditsTheEndOfTheBatchAlone) {
    const nn::TokenLayout layout = kLayouts[0];
    const Layer layer(layout, 3);
    Perturbation both;
    both.cmg_blocks = {0, 2};
    both.cag_blocks = {2, 5};
    both.grounding = overlapping(layout);
    const at::Tensor cmg = kept_grounding(layout, both.grounding), cag = kept_frames(layout);
    const std::map<std::int64_t, at::Tensor> kept = {{0, cmg}, {2, cmg.logical_and(cag)}, {5, cag}};
    const auto edits = both.edits(2);
    ASSERT_EQ(edits.size(), kept.size());
    for (const auto& [block, edit] : edits) {
        const at::Tensor output = edit(layer.input());
        test::expect_equal(output.narrow(0, 0, 2), layer.result.output.narrow(0, 0, 2), "before");
        const at::Tensor reference = layer.reference(kept.at(block)).narrow(0, 2, 1);
        test::expect_close(output.narrow(0, 2, 1), reference, 1e-6, "edited");
        test::expect_close(both.edits(0).at(block)(layer.input()).narrow(0, 2, 1), reference, 1e-6,
                           "all edited");
    }
}

TEST(Perturbation, RunsForBlocksAndAScale) {
    Perturbation perturbation;
    EXPECT_FALSE(perturbation.runs());
    perturbation.cag_blocks = {1};
    EXPECT_TRUE(perturbation.runs());
    perturbation.scale = 0;
    EXPECT_FALSE(perturbation.runs());
}

TEST(Perturbation, RefusesEntriesOfAnotherLayout) {
    const Layer layer(kLayouts[0], 1);
    for (const at::Tensor& entries : {at::ones({23, 5}, at::kBool), at::ones({24, 4}, at::kBool),
                                      at::ones({24, 5}, at::kByte)}) {
        test::expect_error<c10::Error>([&] { (void)without_grounding(layer.input(), entries); },
                                       {"grounding: [24 or 1, 5] bool wanted"});
    }
}

}  // namespace
}  // namespace matrix::pipeline
