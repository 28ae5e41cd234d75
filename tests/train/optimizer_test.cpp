#include "matrix/train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "matrix/tensor_io/safetensors.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace matrix {
namespace {

using train::AdamW;
using train::learning_rate_factor;
using train::OptimizerConfig;

at::Tensor parameter(std::initializer_list<double> values) {
    return at::tensor(std::vector<double>(values)).to(at::kFloat).set_requires_grad(true);
}

std::map<std::string, at::Tensor> two_groups() {
    return {{"heads.grounding.gamma", parameter({0.5})},
            {"transformer.x.lora_A.weight", parameter({1.0, -2.0, 3.0})}};
}

void set_gradients(const std::map<std::string, at::Tensor>& parameters, double factor) {
    for (const auto& [name, value] : parameters) {
        value.mutable_grad() = at::arange(1, value.numel() + 1, at::kFloat) * factor;
    }
}

/// torch.optim.AdamW and clip_grad_norm_ by their documented formulas, in double.
class PlainAdamW {
public:
    PlainAdamW(const std::map<std::string, at::Tensor>& parameters, OptimizerConfig config,
               double head_rate)
        : config_(std::move(config)), head_rate_(head_rate) {
        for (const auto& [name, value] : parameters) {
            values[name] = value.detach().to(at::kDouble).clone();
            m_[name] = at::zeros_like(values[name]);
            v_[name] = at::zeros_like(values[name]);
        }
    }

    double step(std::map<std::string, at::Tensor> gradients, double factor) {
        double square = 0;
        for (auto& [name, g] : gradients) {
            g = g.to(at::kDouble);
            square += g.square().sum().item<double>();
        }
        const double norm = std::sqrt(square);
        const double clip =
            config_.max_grad_norm > 0 ? std::min(1.0, config_.max_grad_norm / (norm + 1e-6)) : 1.0;
        ++t_;
        const double b1 = config_.betas[0], b2 = config_.betas[1];
        for (auto& [name, x] : values) {
            const at::Tensor g = gradients.at(name) * clip;
            const double rate =
                factor * (name.starts_with("heads.") ? head_rate_ : config_.learning_rate);
            m_[name] = b1 * m_[name] + (1 - b1) * g;
            v_[name] = b2 * v_[name] + (1 - b2) * g * g;
            const at::Tensor m_hat = m_[name] / (1 - std::pow(b1, t_)),
                             v_hat = v_[name] / (1 - std::pow(b2, t_));
            x = x - rate * config_.weight_decay * x - rate * m_hat / (v_hat.sqrt() + config_.eps);
        }
        return norm;
    }

    std::map<std::string, at::Tensor> values;

private:
    OptimizerConfig config_;
    double head_rate_;
    std::map<std::string, at::Tensor> m_, v_;
    int t_ = 0;
};

class AdamWFormula : public ::testing::TestWithParam<double> {};

TEST_P(AdamWFormula, Holds) {
    OptimizerConfig config;
    config.learning_rate = 0.01;
    config.weight_decay = 0.1;
    config.eps = 0.03;  // large enough that its place in the formula shows
    config.max_grad_norm = GetParam();
    const auto parameters = two_groups();
    PlainAdamW expected(parameters, config, 0.2);
    AdamW actual(parameters, config, 0.2);
    for (int step = 0; step < 5; ++step) {
        const double size = step % 2 == 0 ? 0.1 : 2.0, factor = 1.0 / (1 + step);
        set_gradients(parameters, size);
        std::map<std::string, at::Tensor> gradients;
        for (const auto& [name, value] : parameters) {
            gradients[name] = value.grad().clone();
        }
        const double norm = expected.step(gradients, factor);
        const at::Tensor measured = actual.step(factor, at::zeros({}));
        EXPECT_NEAR(measured.item<double>(), norm, 1e-6 * norm);
        for (const auto& [name, value] : parameters) {
            test::expect_close(value, expected.values.at(name), 1e-6,
                               name);  // float32 against double
            EXPECT_FALSE(value.grad().defined()) << name << " keeps its gradient";
        }
    }
}

// 0.5 clips every other step, 0 none.
INSTANTIATE_TEST_SUITE_P(Clipping, AdamWFormula, ::testing::Values(0.5, 0.0, 100.0));

std::map<std::string, at::Tensor> everything(const AdamW& optimizer) {
    std::map<std::string, at::Tensor> all;
    for (const auto& [name, tensor] : optimizer.state()) {
        all[name] = tensor.clone();
    }
    for (const auto& [name, tensor] : optimizer.parameters()) {
        all["value." + name] = tensor.detach().clone();
    }
    return all;
}

TEST(AdamW, ANonFiniteGradientChangesNothing) {
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        for (const bool in_loss : {false, true}) {
            const auto parameters = two_groups();
            AdamW optimizer(parameters, {}, 1e-3);
            set_gradients(parameters, 1.0);
            (void)optimizer.step(1.0, at::zeros({}));
            const auto before = everything(optimizer);
            set_gradients(parameters, 1.0);
            if (!in_loss) {
                parameters.at("transformer.x.lora_A.weight").mutable_grad()[1] = bad;
            }
            (void)optimizer.step(1.0, at::full({}, in_loss ? bad : 0.0));
            const auto after = everything(optimizer);
            ASSERT_EQ(before.size(), after.size());
            for (const auto& [name, tensor] : before) {
                test::expect_equal(after.at(name), tensor, name);
            }
            set_gradients(parameters, 1.0);
            (void)optimizer.step(1.0, at::zeros({}));
            EXPECT_EQ(optimizer.state().at("step.heads.grounding.gamma").item<float>(), 2.0f);
        }
    }
}

TEST(AdamW, StateRoundTripContinuesTheSameBits) {
    const auto first = two_groups(), second = two_groups();
    AdamW whole(first, {}, 1e-3), begun(second, {}, 1e-3);
    for (AdamW* optimizer : {&whole, &begun}) {
        set_gradients(optimizer->parameters(), 0.3);
        (void)optimizer->step(1.0, at::zeros({}));
    }
    AdamW resumed(second, {}, 1e-3);
    resumed.load_state(begun.state(), "optimizer.safetensors");
    for (AdamW* optimizer : {&whole, &resumed}) {
        set_gradients(optimizer->parameters(), -0.7);
        (void)optimizer->step(0.5, at::zeros({}));
    }
    const auto expected = everything(whole);
    for (const auto& [name, tensor] : everything(resumed)) {
        test::expect_equal(tensor, expected.at(name), name);
    }
}

TEST(AdamW, ReportsEveryTensorOfAStateThatDoesNotFitAndTakesNone) {
    const auto parameters = two_groups();
    AdamW optimizer(parameters, {}, 1e-3);
    const auto before = everything(optimizer);
    tensor_io::TensorMap state;
    for (const auto& [name, tensor] : optimizer.state()) {
        state[name] = tensor + 1;
    }
    state.erase("step.heads.grounding.gamma");
    state["exp_avg_sq.transformer.x.lora_A.weight"] = at::zeros({4});
    const std::string message = test::expect_error(
        [&] { optimizer.load_state(state, "o.safetensors"); },
        {"o.safetensors: step.heads.grounding.gamma is missing",
         "o.safetensors: exp_avg_sq.transformer.x.lora_A.weight has shape [4], expected [3]"});
    EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 1);
    for (const auto& [name, tensor] : before) {
        test::expect_equal(everything(optimizer).at(name), tensor, name);
    }
    state = optimizer.state();
    state["exp_avg.other"] = at::zeros({1});
    test::expect_error([&] { optimizer.load_state(state, "o.safetensors"); }, {"exp_avg.other"});
}

// diffusers.optimization.get_scheduler, by scripts/fixtures/make_trajectory.py.
TEST(LearningRateFactor, EqualsDiffusers) {
    const tensor_io::TensorMap reference =
        tensor_io::SafetensorsFile(std::string(MATRIX_FIXTURES) +
                                   "/trajectory/trajectory.safetensors")
            .all();
    for (const auto& [ours, theirs] : {std::pair<std::string, std::string>{"cosine", "cosine"},
                                       {"linear", "linear"},
                                       {"constant", "constant_with_warmup"}}) {
        for (const std::int64_t warmup : {0, 1, 7}) {
            const at::Tensor factors =
                reference.at("factor." + theirs + "." + std::to_string(warmup));
            ASSERT_EQ(factors.size(0), 31);
            for (std::int64_t step = 0; step < factors.size(0); ++step) {
                EXPECT_NEAR(learning_rate_factor({ours, warmup}, step, 30),
                            factors[step].item<double>(), 1e-12)
                    << ours << " " << warmup << " " << step;
            }
        }
    }
    EXPECT_NEAR(learning_rate_factor({"cosine", 10}, 55, 100), 0.5, 1e-12);
    EXPECT_NEAR(learning_rate_factor({"linear", 10}, 55, 100), 0.5, 1e-12);
}

}  // namespace
}  // namespace matrix
