#include "matrix/alignment/objective.h"

#include "alignment/reference.h"
#include "matrix/kernels/attention.h"
#include "matrix/tensor_io/safetensors.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <nlohmann/json.hpp>

#include <cmath>

// Against scripts/fixtures/make_alignment.py, which materialises attention in float64.

namespace matrix::alignment {
namespace {

using reference::relative_error;

const nn::TokenLayout kLayout{nn::TokenLayout::Attention::kJoint, 5, 2, 2, 2};
constexpr std::int64_t kBlocks = 3;
// float32 readouts, heads and losses against float64.
constexpr double kTolerance = 1e-5;
// A head's slope and offset: sums over all pixels of terms of both signs, which nearly cancel.
constexpr double kScalarTolerance = 1e-4;

const tensor_io::SafetensorsFile& fixture() {
    static const tensor_io::SafetensorsFile file(std::filesystem::path(MATRIX_FIXTURES) /
                                                 "alignment" / "objective.safetensors");
    return file;
}

at::Tensor input(const std::string& name) {
    return fixture().tensor("in." + name);
}

Supervision supervision() {
    return {input("token_mask"), input("query_mask"), input("masks")};
}

struct Case {
    AlignmentConfig config;
    HeadMode mode = HeadMode::kDecoder;

    explicit Case(const std::string& name) {
        const auto json = nlohmann::json::parse(fixture().metadata().at("cases")).at(name);
        std::vector<std::string> faults;
        fields(config).read(json.at("alignment"), faults);
        TORCH_CHECK(faults.empty(), faults.front());
        mode = json.at("nearest").get<bool>() ? HeadMode::kNearest : HeadMode::kDecoder;
    }

    [[nodiscard]] std::unique_ptr<Objective> objective() const {
        auto made = make_matrix_objective(config, 0, at::kCPU, mode);
        const at::NoGradGuard no_grad;
        for (const auto& [name, parameter] : made->parameters()) {
            at::Tensor(parameter).copy_(input(name));
        }
        return made;
    }
};

/// Queries and keys of the fixture's blocks, and what the taps make of them.
struct Attention {
    std::vector<at::Tensor> q, k;
    std::map<std::int64_t, at::Tensor> outputs;

    Attention(const Objective& objective, const Supervision& s) {
        const auto taps = objective.taps(s);
        for (std::int64_t b = 0; b < kBlocks; ++b) {
            q.push_back(input("q." + std::to_string(b)).clone().requires_grad_(true));
            k.push_back(input("k." + std::to_string(b)).clone().requires_grad_(true));
            if (taps.count(b) != 0) {
                const at::Tensor lse =
                    kernels::attention(q[b].detach(), k[b].detach(), k[b].detach(), 0.5)
                        .log_sum_exp;
                outputs[b] = taps.at(b)({q[b], k[b], lse, kLayout});
            }
        }
    }
};

class ObjectiveCase : public testing::TestWithParam<std::string> {
protected:
    void expect(const std::string& key, const at::Tensor& value,
                double tolerance = kTolerance) const {
        const std::string name = GetParam() + "." + key;
        ASSERT_TRUE(fixture().contains(name)) << name;
        EXPECT_LE(relative_error(value, fixture().tensor(name)), tolerance) << name;
    }
    void expect_term(const std::string& term, const TermResult& result, bool on) const {
        if (!on) {
            EXPECT_EQ(result.loss.item<float>(), 0.0F);
            EXPECT_FALSE(result.map.defined());
            return;
        }
        expect("loss." + term, result.loss);
        expect("map." + term, result.map);
        const at::Tensor counts = fixture().tensor(GetParam() + ".count." + term);
        EXPECT_EQ(result.counted, counts[0].item<std::int64_t>());
        EXPECT_EQ(result.skipped, counts[1].item<std::int64_t>());
    }
};

TEST_P(ObjectiveCase, EqualsTheReferenceWithGradients) {
    const Case c(GetParam());
    const auto objective = c.objective();
    const Attention attention(*objective, supervision());
    constexpr double kScale = 0.25;
    const Evaluation e =
        objective->evaluate(attention.outputs, supervision(), kLayout, kScale, true);
    expect_term("sga", term_of(e.terms, "sga"), c.config.sga.has_value());
    expect_term("spa", term_of(e.terms, "spa"), c.config.spa.has_value());
    torch::autograd::backward(e.roots, e.root_gradients);
    for (std::int64_t b = 0; b < kBlocks; ++b) {
        const std::string block = std::to_string(b);
        if (attention.outputs.count(b) != 0) {
            expect("grad.q." + block, attention.q[b].grad() / kScale);
            expect("grad.k." + block, attention.k[b].grad() / kScale);
        }
    }
    EXPECT_EQ(objective->parameters().empty(), c.mode == HeadMode::kNearest);
    for (const auto& [name, parameter] : objective->parameters()) {
        expect("grad." + name, parameter.grad() / kScale, kScalarTolerance);
    }
}

TEST_P(ObjectiveCase, ValuesDoNotNeedGradients) {
    const Case c(GetParam());
    const auto objective = c.objective();
    const Attention attention(*objective, supervision());
    const Evaluation e = objective->evaluate(attention.outputs, supervision(), kLayout, 1, false);
    expect_term("sga", term_of(e.terms, "sga"), c.config.sga.has_value());
    expect_term("spa", term_of(e.terms, "spa"), c.config.spa.has_value());
    EXPECT_TRUE(e.roots.empty() && e.root_gradients.empty());
    for (const auto& [name, parameter] : objective->parameters()) {
        EXPECT_FALSE(parameter.grad().defined()) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Fixture, ObjectiveCase,
                         testing::Values("nearest", "affine", "text", "all", "t2v", "probabilities",
                                         "nearest_probabilities", "t2v_probabilities", "no_spa",
                                         "no_sga"));

TEST(Objective, GradientsAddUp) {
    const Case c("affine");
    const auto once = c.objective(), twice = c.objective();
    const auto evaluate = [&](Objective& objective, double scale) {
        const Attention attention(objective, supervision());
        (void)objective.evaluate(attention.outputs, supervision(), kLayout, scale, true);
    };
    evaluate(*once, 1);
    evaluate(*twice, 0.5);
    evaluate(*twice, 0.5);
    const auto parameters = twice->parameters();
    for (const auto& [name, parameter] : once->parameters()) {
        EXPECT_LE(relative_error(parameters.at(name).grad(), parameter.grad()), 1e-6) << name;
    }
}

void expect_nothing(const Supervision& s, std::int64_t skipped_sga) {
    AlignmentConfig config;
    config.sga->blocks = {0, 1};
    config.spa->blocks = {1};
    const std::vector<std::string> readouts = {"logits", "probabilities"};
    for (const std::string& readout : readouts) {
        config.readout = readout;
        const auto objective = make_matrix_objective(config, 0, at::kCPU);
        const Attention attention(*objective, s);
        const Evaluation e = objective->evaluate(attention.outputs, s, kLayout, 1, true);
        EXPECT_EQ(term_of(e.terms, "sga").loss.item<float>(), 0.0F);
        EXPECT_EQ(term_of(e.terms, "spa").loss.item<float>(), 0.0F);
        EXPECT_EQ(term_of(e.terms, "sga").counted + term_of(e.terms, "spa").counted, 0);
        EXPECT_EQ(term_of(e.terms, "sga").skipped, skipped_sga);
        EXPECT_TRUE(term_of(e.terms, "sga").map.eq(0).all().item<bool>());
        torch::autograd::backward(e.roots, e.root_gradients);
        EXPECT_TRUE(attention.q[1].grad().eq(0).all().item<bool>()) << readout;
        EXPECT_TRUE(attention.k[1].grad().eq(0).all().item<bool>()) << readout;
        for (const auto& [name, parameter] : objective->parameters()) {
            ASSERT_TRUE(parameter.grad().defined()) << name;
            EXPECT_TRUE(parameter.grad().eq(0).all().item<bool>()) << name;
        }
    }
}

TEST(Objective, NothingCountedGivesZeros) {
    Supervision s = supervision();
    expect_nothing(
        {at::zeros_like(s.token_mask), at::zeros_like(s.query_mask), at::zeros_like(s.masks)}, 0);
    // Two interactions of sample 0 and one of sample 1 still have masks: their entities are
    // skipped.
    expect_nothing({at::zeros_like(s.token_mask), at::zeros_like(s.query_mask), s.masks}, 9);
}

TEST(Objective, NoInteractionsGiveZeros) {
    const Supervision s = supervision();
    expect_nothing(
        {s.token_mask.narrow(1, 0, 0), s.query_mask.narrow(1, 0, 0), s.masks.narrow(1, 0, 0)}, 0);
}

TEST(Objective, VerbFollowsTheUnionAlone) {
    // The object vanishes, its track with it; the verb still has the subject's pixels.
    Supervision s = supervision();
    s.masks = s.masks.clone();
    s.masks.select(2, 1).zero_();
    AlignmentConfig config;
    config.sga->blocks = {0};
    config.spa.reset();
    const auto objective = make_matrix_objective(config, 0, at::kCPU);
    const Attention attention(*objective, s);
    // Sample 0: subject and verb, subject; sample 1: subject and verb.
    EXPECT_EQ(
        term_of(objective->evaluate(attention.outputs, s, kLayout, 1, false).terms, "sga").counted,
        5);
}

TEST(Objective, SupervisionThatDoesNotFitIsRefused) {
    const auto objective = Case("affine").objective();
    Supervision s = supervision();
    const Attention attention(*objective, s);
    s.masks = s.masks.narrow(3, 0, 4);
    EXPECT_ANY_THROW((void)objective->evaluate(attention.outputs, s, kLayout, 1, true));
}

TEST(Objective, TheFreeDecoderAndTheResidualTrain) {
    for (const std::string head : {"residual", "conv"}) {
        AlignmentConfig config;
        config.head = head;
        config.sga->blocks = {0};
        config.spa->blocks = {1};
        const auto objective = make_matrix_objective(config, 3, at::kCPU);
        const Supervision s = supervision();
        const Attention attention(*objective, s);
        (void)objective->evaluate(attention.outputs, s, kLayout, 1, true);
        double moved = 0;
        for (const auto& [name, parameter] : objective->parameters()) {
            EXPECT_TRUE(parameter.grad().isfinite().all().item<bool>()) << name;
            moved += parameter.grad().abs().max().item<double>() > 0 ? 1 : 0;
        }
        // Behind the zero last layer of the residual nothing moves at first: two heads of gamma,
        // beta and that layer.
        EXPECT_EQ(moved, head == "conv" ? 16 : 8) << head;
    }
}

}  // namespace
}  // namespace matrix::alignment
