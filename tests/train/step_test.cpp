#include "matrix/train/step.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "distributed/thread_group.h"
#include "support/tensors.h"
#include "train/counted_group.h"
#include "train/trajectory.h"

namespace matrix {
namespace {

using test::Trajectory;

TEST(TrainingStep, AccumulationEqualsOneBatch) {
    Trajectory whole, split;
    const train::StepResult a = whole.train_step(0, false, nn::Keep::kGraph),
                            b = split.train_step(0, true, nn::Keep::kGraph);
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
    const train::StepResult r = t.train_step(0, false, nn::Keep::kAttention);
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
    const train::StepResult bad =
        t.train_on({t.batch(1), batch}, *t.optimizer, 1.0, nn::Keep::kAttention);
    EXPECT_FALSE(bad.loss.isfinite().item<bool>());
    for (const auto& [name, tensor] : t.trained) {
        test::expect_equal(tensor, before.at(name), name);
        EXPECT_FALSE(tensor.grad().defined()) << name;
    }
    // The next step is what it would have been without the bad one.
    Trajectory fresh;
    test::expect_equal(t.train_step(0, false, nn::Keep::kAttention).loss,
                       fresh.train_step(0, false, nn::Keep::kAttention).loss, "loss");
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
    const train::StepResult result = t.train_on({t.batch(0)}, optimizer, 1.0, nn::Keep::kAttention);
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

// The samples of a step among ranks. Clips of the fixture differ in what they have interactions of;
// of four samples a step, the last has none at all.

train::Batch joined(const train::Batch& a, const train::Batch& b) {
    const auto both = [](const at::Tensor& x, const at::Tensor& y) { return at::cat({x, y}); };
    train::Batch batch = a;
    batch.latents = both(a.latents, b.latents);
    batch.noise = both(a.noise, b.noise);
    batch.timestep = both(a.timestep, b.timestep);
    batch.image_latents = both(a.image_latents, b.image_latents);
    batch.id_map_latents = both(a.id_map_latents, b.id_map_latents);
    batch.encoder_hidden_states = both(a.encoder_hidden_states, b.encoder_hidden_states);
    const alignment::Supervision &s = a.supervision, &t = b.supervision;
    batch.supervision = {both(s.token_mask, t.token_mask), both(s.query_mask, t.query_mask),
                         both(s.masks, t.masks)};
    batch.names.insert(batch.names.end(), b.names.begin(), b.names.end());
    batch.sample_numbers.insert(batch.sample_numbers.end(), b.sample_numbers.begin(),
                                b.sample_numbers.end());
    return batch;
}

/// Samples `begin` to `end` of the four of a step.
train::Batch samples(const Trajectory& t, std::int64_t step, std::int64_t begin, std::int64_t end) {
    train::Batch batch;
    for (std::int64_t i = begin; i < end; ++i) {
        train::Batch sample = t.batch(2 * step + i / 2, i % 2, i % 2 + 1);
        if (i == 3) {
            const alignment::Supervision& s = sample.supervision;
            sample.supervision = {at::zeros_like(s.token_mask), at::zeros_like(s.query_mask),
                                  at::zeros_like(s.masks)};
        }
        batch = i == begin ? sample : joined(batch, sample);
    }
    return batch;
}

constexpr std::int64_t kSteps = 8;
// Small enough for several buckets of the fixture's factors.
constexpr std::int64_t kSmallBuckets = 2048;

/// A rank's part of a step: as many micro-batches as there are in `batches`.
train::StepResult step_on(Trajectory& t, const std::vector<train::Batch>& batches,
                          const train::Ranks& ranks, train::GradientExchange& gradients) {
    auto next = batches.begin();
    return train::training_step(
        [&] { return *next++; },
        {*t.model, t.schedule, *t.objective, *t.optimizer, gradients, ranks},
        {static_cast<std::int64_t>(batches.size()), 1.0, {nn::Keep::kAttention}, "step 1"});
}

/// One process with all samples of every step.
struct Whole {
    Whole() {
        train::Ranks ranks = train::Ranks::single();
        train::GradientExchange gradients(trajectory.trained, ranks.all);
        for (std::int64_t step = 0; step < kSteps; ++step) {
            results.push_back(
                step_on(trajectory, {samples(trajectory, step, 0, 4)}, ranks, gradients));
        }
    }
    Trajectory trajectory;
    std::vector<train::StepResult> results;
};

void expect_near(const at::Tensor& actual, const at::Tensor& expected, const std::string& name) {
    const auto x = actual.item<double>(), y = expected.item<double>();
    EXPECT_LE(std::abs(x - y), 1e-6 * std::abs(y)) << name << ": " << x << " " << y;
}

/// Equal but for the order of float32 sums.
void expect_same_step(const train::StepResult& actual, const train::StepResult& expected,
                      const std::string& step) {
    expect_near(actual.loss, expected.loss, step + ", loss");
    expect_near(actual.loss_denoise, expected.loss_denoise, step + ", loss_denoise");
    for (const char* name : {"sga", "spa"}) {
        expect_near(term_of(actual.terms, name).loss, term_of(expected.terms, name).loss,
                    step + ", " + name);
    }
}

void expect_same_tensors(const Trajectory& actual, const Trajectory& expected) {
    for (const auto& [name, tensor] : expected.trained) {
        const at::Tensor x = actual.trained.at(name).detach(), y = tensor.detach();
        EXPECT_LE((x - y).norm().item<double>(), 2e-6 * y.norm().item<double>()) << name;
    }
}

struct Shared {
    int ranks;
    int context;
    std::int64_t accumulation;
};

class TrainingStepOf : public ::testing::TestWithParam<Shared> {};

TEST_P(TrainingStepOf, RanksIsThatOfOneProcess) {
    static const Whole whole;
    const Shared shared = GetParam();
    test::run_in_threads(shared.ranks, [&](distributed::Communicator& all) {
        std::optional<test::CountedGroup> group;
        if (shared.context > 1) {
            group.emplace(all, shared.context);
        }
        const train::Ranks ranks{all, group ? &*group : nullptr, shared.context};
        const std::int64_t count = 4 / ranks.num_replicas() / shared.accumulation;
        Trajectory own;
        train::GradientExchange gradients(own.trained, all, kSmallBuckets);
        EXPECT_GT(gradients.num_buckets(), 4u);
        for (std::int64_t step = 0; step < kSteps; ++step) {
            std::vector<train::Batch> batches;
            for (std::int64_t m = 0; m < shared.accumulation; ++m) {
                const std::int64_t begin = (m * ranks.num_replicas() + ranks.replica()) * count;
                batches.push_back(samples(own, step, begin, begin + count));
            }
            const train::StepResult result = step_on(own, batches, ranks, gradients);
            expect_same_step(result, whole.results[static_cast<std::size_t>(step)],
                             "step " + std::to_string(step));
            EXPECT_EQ(gradients.num_overlapped(), gradients.num_buckets());
        }
        expect_same_tensors(own, whole.trajectory);
        EXPECT_TRUE(!group || group->num_exchanges > 0) << "every rank ran the whole clip";
    });
}

INSTANTIATE_TEST_SUITE_P(Shares, TrainingStepOf,
                         ::testing::Values(Shared{1, 1, 4}, Shared{2, 1, 1}, Shared{2, 1, 2},
                                           Shared{4, 1, 1}, Shared{2, 2, 1}, Shared{4, 2, 2}),
                         [](const auto& test) {
                             return "ranks" + std::to_string(test.param.ranks) + "_context" +
                                    std::to_string(test.param.context) + "_accumulation" +
                                    std::to_string(test.param.accumulation);
                         });

// Rank 1 alone has the bad sample; the loss is bad on all, and none of them moves.
TEST(TrainingStep, ANonFiniteSampleOfOneRankChangesNothingOnAny) {
    for (const bool in_last_micro_batch : {true, false}) {
        test::run_in_threads(2, [&](distributed::Communicator& all) {
            const train::Ranks ranks{all};
            Trajectory own, fresh;
            train::GradientExchange gradients(own.trained, all);
            std::vector<train::Batch> batches = {own.batch(0), own.batch(1)};
            if (all.rank() == 1) {
                batches[in_last_micro_batch ? 1 : 0].image_latents[1][0][0][0][0] =
                    std::numeric_limits<float>::quiet_NaN();
            }
            const train::StepResult bad = step_on(own, batches, ranks, gradients);
            EXPECT_FALSE(bad.loss.isfinite().item<bool>()) << all.rank();
            EXPECT_FALSE(bad.grad_norm.isfinite().item<bool>()) << all.rank();
            for (const auto& [name, tensor] : own.trained) {
                test::expect_equal(tensor, fresh.trained.at(name), name);
            }
            // Whose it is stays known, and the next step is what it would have been.
            const bool known =
                bad.micro_batches[in_last_micro_batch ? 1 : 0].isfinite().all().item<bool>();
            EXPECT_EQ(known, all.rank() == 0);
            train::GradientExchange others(fresh.trained, all);
            const std::vector<train::Batch> good = {own.batch(2)};
            test::expect_equal(step_on(own, good, ranks, gradients).loss,
                               step_on(fresh, good, ranks, others).loss, "loss");
            for (const auto& [name, tensor] : own.trained) {
                test::expect_equal(tensor, fresh.trained.at(name), name);
            }
        });
    }
}

}  // namespace
}  // namespace matrix
