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
    for (const auto& [x, y] :
         {std::pair{a.loss, b.loss}, {a.loss_sga, b.loss_sga}, {a.grad_norm, b.grad_norm}}) {
        test::expect_close(x, y, 1e-5, "result");
    }
    EXPECT_EQ(a.sga_counted, b.sga_counted);
    EXPECT_EQ(a.spa_skipped, b.spa_skipped);
}

TEST(TrainingStep, LossIsTheWeightedSum) {
    Trajectory t;
    const train::StepResult r = t.train_step(0, false, true);
    test::expect_close(r.loss, r.loss_denoise + 0.5 * r.loss_sga + 0.25 * r.loss_spa, 1e-6, "loss");
}

TEST(TrainingStep, ANonFiniteSampleChangesNothing) {
    Trajectory t;
    std::map<std::string, at::Tensor> before;
    for (const auto& [name, tensor] : t.trained) {
        before[name] = tensor.detach().clone();
    }
    train::Batch batch = t.batch(0);
    batch.image_latents[0][0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
    const train::StepResult bad =
        train::training_step({t.batch(1), batch}, *t.model, t.schedule, *t.objective, *t.optimizer,
                             {0.5, 0.25}, 1.0, true);
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
    const train::StepResult result = train::training_step(
        {t.batch(0)}, *t.model, t.schedule, *t.objective, optimizer, {0.5, 0.25}, 1.0, true);
    EXPECT_TRUE(result.loss.isfinite().item<bool>());
    EXPECT_NE(t.trained.at("heads.grounding.beta").item<float>(), before.item<float>());
}

TEST(RunBatch, WithoutGradientsLeavesNone) {
    Trajectory t;
    const train::LossTerms dry =
        train::run_batch(t.batch(0), *t.model, t.schedule, *t.objective, true, 1.0, false);
    for (const auto& [name, tensor] : t.trained) {
        EXPECT_FALSE(tensor.grad().defined()) << name;
    }
    const train::LossTerms wet =
        train::run_batch(t.batch(0), *t.model, t.schedule, *t.objective, true, 1.0, true);
    test::expect_equal(dry.denoise, wet.denoise, "denoise");
    test::expect_equal(dry.alignment.sga.loss, wet.alignment.sga.loss, "sga");
}

}  // namespace
}  // namespace matrix
