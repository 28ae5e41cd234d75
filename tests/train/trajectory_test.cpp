#include "train/trajectory.h"

#include <gtest/gtest.h>

#include <cmath>

#include "matrix/core/cuda_device.h"
#include "support/tensors.h"

namespace matrix {
namespace {

using test::Trajectory;

void expect_near(double actual, double expected, double relative, const std::string& name) {
    EXPECT_LE(std::abs(actual - expected), relative * std::abs(expected))
        << name << ": " << actual << " " << expected;
}

/// Losses of every step against the reference, and the weights after the last.
void expect_reference_run(bool accumulate, nn::Keep keep, at::Device device = at::kCPU) {
    Trajectory trajectory(device);
    const at::Tensor losses = trajectory.reference.at("losses"),
                     norms = trajectory.reference.at("grad_norms");
    ASSERT_EQ(losses.size(0), 20);
    for (std::int64_t step = 0; step < trajectory.steps(); ++step) {
        const train::StepResult result = trajectory.train_step(step, accumulate, keep);
        const at::Tensor actual[] = {result.loss, result.loss_denoise,
                                     term_of(result.terms, "sga").loss,
                                     term_of(result.terms, "spa").loss};
        for (int i = 0; i < 4; ++i) {
            // float32 in both programs; measured 4e-6 at most.
            expect_near(actual[i].item<double>(), losses[step][i].item<double>(), 1e-4,
                        "step " + std::to_string(step) + ", loss " + std::to_string(i));
        }
        expect_near(result.grad_norm.item<double>(), norms[step].item<double>(), 1e-4,
                    "step " + std::to_string(step) + ", norm");
    }
    for (const auto& [name, tensor] : trajectory.trained) {
        // Measured 4e-6. AdamW's first steps have the gradient's sign alone, so on other processors
        // an element whose gradient is rounding noise may go the other way.
        test::expect_close(tensor, trajectory.reference.at("final." + name), 1e-4, name);
    }
}

TEST(Trajectory, EqualsPyTorch) {
    expect_reference_run(false, nn::Keep::kProducts);
}

TEST(Trajectory, EqualsPyTorchAccumulatedAndCheckpointed) {
    expect_reference_run(true, nn::Keep::kAttention);
}

#ifdef MATRIX_WITH_CUDA
TEST(Trajectory, EqualsPyTorchOnAGpu) {
    if (!at::globalContext().hasCUDA()) {
        GTEST_SKIP() << "no GPU";
    }
    expect_reference_run(true, nn::Keep::kAttention, cuda_device(0));
}
#endif

TEST(Trajectory, CheckpointingChangesNoBit) {
    Trajectory kept, recomputed;
    for (std::int64_t step = 0; step < 4; ++step) {
        const train::StepResult a = kept.train_step(step, true, nn::Keep::kGraph),
                                b = recomputed.train_step(step, true, nn::Keep::kAttention);
        test::expect_equal(a.loss, b.loss, "loss");
        test::expect_equal(a.grad_norm, b.grad_norm, "norm");
    }
    for (const auto& [name, tensor] : kept.trained) {
        test::expect_equal(tensor, recomputed.trained.at(name), name);
    }
}

TEST(Trajectory, CountsAbsentEntities) {
    const Trajectory trajectory;
    // Clips: all there; an intransitive verb; one interaction; see make_trajectory.py for the
    // fourth.
    const std::int64_t sga[] = {6, 5, 3, 3}, spa[] = {4, 3, 2, 2};
    for (std::int64_t step = 0; step < trajectory.steps(); ++step) {
        const train::Batch batch = trajectory.batch(step);
        const train::BatchResult terms =
            train::run_batch(batch, *trajectory.model, trajectory.schedule, *trajectory.objective,
                             {.with_gradients = false});
        std::int64_t expected_sga = 0, expected_spa = 0, interactions = 0;
        for (const auto* row = trajectory.reference.at("rows")[step].const_data_ptr<std::int64_t>();
             interactions < 2; ++row, ++interactions) {
            expected_sga += sga[*row];
            expected_spa += spa[*row];
        }
        EXPECT_EQ(term_of(terms.alignment.terms, "sga").counted, expected_sga) << step;
        EXPECT_EQ(term_of(terms.alignment.terms, "spa").counted, expected_spa) << step;
    }
}

}  // namespace
}  // namespace matrix
