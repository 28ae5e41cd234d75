#include "matrix/train/step.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"
#include "train/trajectory.h"

namespace matrix {
namespace {

using test::Trajectory;

TEST(TrainingStep, AccumulationEqualsOneBatch) {
    Trajectory whole, split;
    const train::StepResult a = whole.train_step(0, false, false),
                            b = split.train_step(0, true, false);
    // Means of means over equal halves, in another order of float32 sums.
    test::expect_close(a.loss, b.loss, 1e-5, "loss");
    test::expect_close(a.grad_norm, b.grad_norm, 1e-5, "grad_norm");
    for (const char* name : {"sga", "spa"}) {
        const alignment::TermResult &x = term_of(a.terms, name), &y = term_of(b.terms, name);
        test::expect_close(x.loss, y.loss, 1e-5, name);
        EXPECT_EQ(x.counted, y.counted);
        EXPECT_EQ(x.skipped, y.skipped);
    }
}

TEST(TrainingStep, LossIsTheWeightedSum) {
    Trajectory t;
    const train::StepResult r = t.train_step(0, false, true);
    const at::Tensor sga = term_of(r.terms, "sga").loss, spa = term_of(r.terms, "spa").loss;
    test::expect_close(r.loss, r.loss_denoise + 0.5 * sga + 0.25 * spa, 1e-6, "loss");
}

TEST(TrainingStep, ANonFiniteSampleChangesNothing) {
    Trajectory t;
    std::map<std::string, at::Tensor> before;
    for (const auto& [name, tensor] : t.trained) {
        before[name] = tensor.detach().clone();
    }
    train::Batch batch = t.batch(0);
    batch.image_latents[0][0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
    const train::StepResult bad = t.train_on({t.batch(1), batch}, *t.optimizer, 1.0, true);
    EXPECT_FALSE(bad.loss.isfinite().item<bool>());
    for (const auto& [name, tensor] : t.trained) {
        test::expect_equal(tensor, before.at(name), name);
        EXPECT_FALSE(tensor.grad().defined()) << name;
    }
    // The next step is what it would have been without the bad one.
    Trajectory fresh;
    test::expect_equal(t.train_step(0, false, true).loss, fresh.train_step(0, false, true).loss,
                       "loss");
    for (const auto& [name, tensor] : t.trained) {
        test::expect_equal(tensor, fresh.trained.at(name), name);
    }
}

TEST(TrainingStep, TrainsTheHeadsAloneOverAFrozenModel) {
    Trajectory t;
    for (auto& [name, tensor] : t.trained) {
        if (!name.starts_with("heads.")) {
            tensor.set_requires_grad(false);
        }
    }
    train::AdamW optimizer(t.objective->parameters(), {}, 0.1);
    const at::Tensor before = t.trained.at("heads.grounding.beta").detach().clone();
    const train::StepResult result = t.train_on({t.batch(0)}, optimizer, 1.0, true);
    EXPECT_TRUE(result.loss.isfinite().item<bool>());
    EXPECT_NE(t.trained.at("heads.grounding.beta").item<float>(), before.item<float>());
}

TEST(RunBatch, WithoutGradientsLeavesNone) {
    Trajectory t;
    const train::BatchResult dry =
        train::run_batch(t.batch(0), *t.model, t.schedule, *t.objective, {.with_gradients = false});
    for (const auto& [name, tensor] : t.trained) {
        EXPECT_FALSE(tensor.grad().defined()) << name;
    }
    const train::BatchResult wet =
        train::run_batch(t.batch(0), *t.model, t.schedule, *t.objective, {});
    test::expect_equal(dry.denoise, wet.denoise, "denoise");
    test::expect_equal(term_of(dry.alignment.terms, "sga").loss,
                       term_of(wet.alignment.terms, "sga").loss, "sga");
}

}  // namespace
}  // namespace matrix
