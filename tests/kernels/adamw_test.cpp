#include "matrix/kernels/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "support/tensors.h"

namespace matrix::kernels {
namespace {

constexpr AdamWFactors kFactors{0.9, 0.95, 0.03, 0.1};

at::Tensor scalar(double value) {
    return at::full({}, value, at::kFloat);
}

/// Tensors of `sizes`, each after a step count of its own.
AdamWGroup group_of(double learning_rate, const std::vector<std::int64_t>& sizes) {
    AdamWGroup group{learning_rate, {}, {}, {}, {}, {}};
    for (const std::int64_t size : sizes) {
        group.values.push_back(at::randn({size}));
        group.grads.push_back(at::randn({size}) * 3);
        group.exp_avg.push_back(at::randn({size}));
        group.exp_avg_sq.push_back(at::rand({size}));
        group.steps.push_back(scalar(static_cast<double>(group.steps.size() % 9)));
    }
    return group;
}

AdamWGroup copy_of(const AdamWGroup& group, at::ScalarType dtype) {
    const auto copies = [&](const std::vector<at::Tensor>& all) {
        std::vector<at::Tensor> made;
        for (const at::Tensor& t : all) {
            made.push_back(t.to(dtype, false, true));
        }
        return made;
    };
    return {group.learning_rate,   copies(group.values),     copies(group.grads),
            copies(group.exp_avg), copies(group.exp_avg_sq), copies(group.steps)};
}

/// AdamW as torch.optim documents it, in float64.
void plain(AdamWGroup& g, double clip) {
    const AdamWFactors& f = kFactors;
    for (std::size_t i = 0; i < g.values.size(); ++i) {
        const double step = g.steps[i].add_(1).item<double>();
        const at::Tensor grad = g.grads[i] * clip;
        at::Tensor &m = g.exp_avg[i], &v = g.exp_avg_sq[i], &x = g.values[i];
        m = f.beta1 * m + (1 - f.beta1) * grad;
        v = f.beta2 * v + (1 - f.beta2) * grad * grad;
        const at::Tensor m_hat = m / (1 - std::pow(f.beta1, step)),
                         v_hat = v / (1 - std::pow(f.beta2, step));
        x = x - g.learning_rate * (f.weight_decay * x + m_hat / (v_hat.sqrt() + f.eps));
    }
}

/// Of the largest value of a tensor, which in a small one may be what a difference has left.
void expect_close(const AdamWGroup& actual, const AdamWGroup& expected, double tolerance) {
    for (std::size_t i = 0; i < expected.values.size(); ++i) {
        const std::string at = " " + std::to_string(i);
        test::expect_close(actual.values[i], expected.values[i], tolerance, "value" + at);
        test::expect_close(actual.exp_avg[i], expected.exp_avg[i], 1e-6, "exp_avg" + at);
        test::expect_close(actual.exp_avg_sq[i], expected.exp_avg_sq[i], 1e-6, "exp_avg_sq" + at);
        test::expect_close(actual.steps[i], expected.steps[i], 0, "step" + at);
    }
}

TEST(AdamWKernel, EqualsItsFormulaForTensorsOfAnySize) {
    at::manual_seed(1);
    const std::vector<AdamWGroup> groups = {group_of(0.02, {3, 40'000, 0, 16'384}),
                                            group_of(0.3, {1, 16'385})};
    for (const double clip : {0.25, 1.0}) {
        std::vector<AdamWGroup> actual, expected;
        for (const AdamWGroup& group : groups) {
            actual.push_back(copy_of(group, at::kFloat));
            expected.push_back(copy_of(group, at::kDouble));
            plain(expected.back(), clip);
        }
        adamw_(actual, kFactors, clip == 1 ? at::Tensor() : scalar(clip), scalar(0));
        for (std::size_t i = 0; i < groups.size(); ++i) {
            expect_close(actual[i], expected[i], 1e-6);
        }
    }
}

TEST(AdamWKernel, TakesMoreTensorsThanALaunch) {
    at::manual_seed(2);
    const std::vector<AdamWGroup> groups = {group_of(0.1, std::vector<std::int64_t>(520, 2))};
    AdamWGroup expected = copy_of(groups[0], at::kDouble);
    plain(expected, 1);
    adamw_(groups, kFactors, {}, scalar(0));
    expect_close(groups[0], expected, 1e-5);
}

TEST(AdamWKernel, SkipsAStepWithoutATrace) {
    at::manual_seed(3);
    const std::vector<AdamWGroup> groups = {group_of(0.1, {5, 20'000})};
    groups[0].grads[1][7] = NAN;
    const AdamWGroup before = copy_of(groups[0], at::kFloat);
    adamw_(groups, kFactors, scalar(NAN), scalar(1));
    for (std::size_t i = 0; i < before.values.size(); ++i) {
        test::expect_equal(groups[0].values[i], before.values[i], "value");
        test::expect_equal(groups[0].exp_avg[i], before.exp_avg[i], "exp_avg");
        test::expect_equal(groups[0].exp_avg_sq[i], before.exp_avg_sq[i], "exp_avg_sq");
        test::expect_equal(groups[0].steps[i], before.steps[i], "step");
    }
}

TEST(AdamWKernel, RefusesWhatIsNotFloat32OrNotContiguousOrMissing) {
    const auto with = [](auto change) {
        std::vector<AdamWGroup> groups = {group_of(0.1, {6})};
        change(groups[0]);
        adamw_(groups, kFactors, {}, scalar(0));
    };
    EXPECT_THROW(with([](AdamWGroup& g) { g.grads[0] = g.grads[0].to(at::kBFloat16); }),
                 c10::Error);
    EXPECT_THROW(with([](AdamWGroup& g) { g.exp_avg[0] = at::zeros({12}).slice(0, 0, 12, 2); }),
                 c10::Error);
    EXPECT_THROW(with([](AdamWGroup& g) { g.steps.clear(); }), c10::Error);
    EXPECT_THROW(with([](AdamWGroup& g) { g.exp_avg_sq.clear(); }), c10::Error);
}

}  // namespace
}  // namespace matrix::kernels
