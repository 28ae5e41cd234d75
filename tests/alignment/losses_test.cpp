#include "matrix/alignment/losses.h"

#include "alignment/reference.h"
#include "matrix/core/random.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace matrix::alignment {
namespace {

using reference::relative_error;

// The definition, in float64 and with plain operations.
LossTerms defined(const at::Tensor& logits, const at::Tensor& target, const AlignmentConfig& c) {
    const at::Tensor x = logits.flatten(1), y = target.flatten(1).to(at::kDouble);
    const at::Tensor s = x.sigmoid();
    const at::Tensor positives = y.sum(1, true), negatives = (1 - y).sum(1, true);
    at::Tensor p = at::ones_like(positives);
    if (c.positive_class_weight) {
        p = at::where(positives.eq(0), at::full_like(p, 10), (negatives / positives).clamp_max(10));
    }
    LossTerms t;
    t.bce = -(p * y * at::log_sigmoid(x) + (1 - y) * at::log_sigmoid(-x)).mean(1);
    t.dice = 1 - (2 * (s * y).sum(1) + 1) / (s.sum(1) + y.sum(1) + 1);
    t.l2 = (s - y).square().mean(1);
    t.total = (c.bce * t.bce + c.dice * t.dice + c.l2 * t.l2).sum();
    return t;
}

void expect_defined(const at::Tensor& logits, const at::Tensor& target, const AlignmentConfig& c,
                    double tolerance) {
    const at::Tensor x = logits.clone().requires_grad_(true);
    const at::Tensor wide = logits.to(at::kDouble).requires_grad_(true);
    const LossTerms got = mask_loss(x, target, c), wanted = defined(wide, target, c);
    EXPECT_LE(relative_error(got.bce, wanted.bce), tolerance);
    EXPECT_LE(relative_error(got.dice, wanted.dice), tolerance);
    EXPECT_LE(relative_error(got.l2, wanted.l2), tolerance);
    EXPECT_LE(relative_error(got.total, wanted.total), tolerance);
    const at::Tensor grad = torch::autograd::grad({got.total}, {x})[0];
    EXPECT_LE(relative_error(grad, torch::autograd::grad({wanted.total}, {wide})[0]), tolerance);
    EXPECT_EQ(grad.sizes(), logits.sizes());
    EXPECT_FALSE(got.bce.requires_grad());
}

std::vector<AlignmentConfig> configs() {
    std::vector<AlignmentConfig> all(5);
    all[1].positive_class_weight = true;
    all[2].bce = 0.3;
    all[2].dice = 2.0;
    all[2].l2 = 0.7;
    all[2].positive_class_weight = true;
    all[3].bce = all[3].l2 = 0;
    all[4].bce = all[4].dice = 0;
    return all;
}

TEST(MaskLoss, EqualsTheDefinition) {
    const at::Tensor logits = keyed_normal({3, 5, 4, 6}, 1, Purpose::kSynth, 1) * 3;
    at::Tensor target = keyed_normal({3, 5, 4, 6}, 1, Purpose::kSynth, 2).gt(1.0).to(at::kByte);
    target[1].zero_();   // an empty mask
    target[2].fill_(1);  // a full one
    for (const AlignmentConfig& c : configs()) {
        expect_defined(logits, target, c, 2e-6);
        expect_defined(logits.to(at::kDouble), target, c, 1e-13);
        expect_defined(logits, target.to(at::kFloat), c, 2e-6);
    }
}

TEST(MaskLoss, ManyChunksEqualOne) {
    // 5.2 million pixels of two entities: more than one chunk, the last one short.
    const at::Tensor logits = keyed_normal({2, 5, 512, 1024}, 1, Purpose::kSynth, 3);
    const at::Tensor target = keyed_normal({2, 5, 512, 1024}, 1, Purpose::kSynth, 4).gt(1.2);
    expect_defined(logits, target.to(at::kByte), AlignmentConfig{}, 1e-6);
    expect_defined(logits.to(at::kDouble), target.to(at::kByte), AlignmentConfig{}, 1e-13);
}

// Logits as a head leaves them: the loss and the gradients of both parts are those of the pixels'.
TEST(MaskLoss, OfCellsIsThatOfTheirPixels) {
    const auto values = [](at::IntArrayRef shape, std::uint64_t key) {
        return keyed_normal(shape, 1, Purpose::kSynth, key) * 2;
    };
    const at::Tensor rows = values({3, 2, 2, 48}, 6), cells = values({3, 2, 2, 3, 1024}, 7);
    at::Tensor target = values({3, 5, 32, 48}, 8).gt(1).to(at::kByte);
    target[1].zero_();
    for (const AlignmentConfig& c : configs()) {
        for (const auto dtype : {at::kFloat, at::kDouble}) {
            const auto parts = [](at::ScalarType type, const at::Tensor& r, const at::Tensor& s) {
                return kernels::CellLogits{r.to(type).detach().requires_grad_(true),
                                           s.to(type).detach().requires_grad_(true), 4};
            };
            const kernels::CellLogits x = parts(dtype, rows, cells),
                                      wide = parts(at::kDouble, rows, cells);
            const LossTerms got = mask_loss(x, target, c),
                            wanted = defined(kernels::pixel_logits(wide), target, c);
            const double tolerance = dtype == at::kFloat ? 2e-6 : 1e-12;
            EXPECT_LE(relative_error(got.bce, wanted.bce), tolerance);
            EXPECT_LE(relative_error(got.dice, wanted.dice), tolerance);
            EXPECT_LE(relative_error(got.l2, wanted.l2), tolerance);
            EXPECT_LE(relative_error(got.total, wanted.total), tolerance);
            const auto grads = torch::autograd::grad({3 * got.total}, {x.rows, x.cells}),
                       exact = torch::autograd::grad({3 * wanted.total}, {wide.rows, wide.cells});
            EXPECT_LE(relative_error(grads[0], exact[0]), tolerance);
            EXPECT_LE(relative_error(grads[1], exact[1]), tolerance);
        }
    }
}

TEST(MaskLoss, HandComputed) {
    // sigmoid(0) = 1/2, sigmoid(log 3) = 3/4
    const at::Tensor x = at::tensor({0.0, std::log(3.0), 0.0, -std::log(3.0)}, at::kDouble);
    const at::Tensor y = at::tensor({1, 1, 0, 0}, at::kByte);
    const LossTerms t = mask_loss(x.view({1, 1, 2, 2}), y.view({1, 1, 2, 2}), AlignmentConfig{});
    const double bce = (2 * std::log(2.0) + 2 * std::log(4.0 / 3.0)) / 4;
    const double dice = 1 - (2 * (0.5 + 0.75) + 1) / (0.5 + 0.75 + 0.5 + 0.25 + 2 + 1);
    const double l2 = (0.25 + 0.0625 + 0.25 + 0.0625) / 4;
    EXPECT_NEAR(t.bce.item<double>(), bce, 1e-14);
    EXPECT_NEAR(t.dice.item<double>(), dice, 1e-14);
    EXPECT_NEAR(t.l2.item<double>(), l2, 1e-14);
    EXPECT_NEAR(t.total.item<double>(), bce + dice + l2, 1e-14);
}

TEST(MaskLoss, LargeLogitsStayExact) {
    const at::Tensor x = at::tensor({100.0F, -100.0F, 100.0F, -100.0F, 30.0F, -30.0F});
    const at::Tensor y = at::tensor({1, 0, 0, 1, 1, 1}, at::kByte);
    AlignmentConfig c;
    for (const bool weighted : {false, true}) {
        c.positive_class_weight = weighted;
        expect_defined(x.view({1, 1, 2, 3}), y.view({1, 1, 2, 3}), c, 1e-6);
    }
    c.positive_class_weight = false;
    // Only the two wrong ones and the wrong -30 cost: 100 + 100 + 30.
    EXPECT_NEAR(mask_loss(x.view({1, 1, 2, 3}), y.view({1, 1, 2, 3}), c).bce.item<double>(),
                230.0 / 6, 1e-5);
}

TEST(MaskLoss, PositiveWeightWithoutPositives) {
    AlignmentConfig c;
    c.positive_class_weight = true;
    const at::Tensor x = keyed_normal({1, 1, 4, 4}, 1, Purpose::kSynth, 5);
    const at::Tensor none = at::zeros({1, 1, 4, 4}, at::kByte);
    expect_defined(x, none, c, 2e-6);
    // Without a positive pixel the weight of 10 has nothing to weigh.
    EXPECT_FLOAT_EQ(mask_loss(x, none, c).bce.item<float>(),
                    mask_loss(x, none, AlignmentConfig{}).bce.item<float>());
}

TEST(MaskLoss, NoEntitiesCostNothing) {
    const at::Tensor x = at::zeros({0, 5, 16, 16}).requires_grad_(true);
    const LossTerms t = mask_loss(x, at::zeros({0, 5, 16, 16}, at::kByte), AlignmentConfig{});
    EXPECT_EQ(t.total.item<float>(), 0.0F);
    EXPECT_EQ(t.bce.numel(), 0);
    EXPECT_EQ(torch::autograd::grad({t.total}, {x})[0].numel(), 0);
}

TEST(MaskLoss, RefusesOtherShapes) {
    EXPECT_THROW((void)mask_loss(at::zeros({1, 1, 4, 4}), at::zeros({1, 1, 4, 5}, at::kByte), {}),
                 c10::Error);
}

}  // namespace
}  // namespace matrix::alignment
