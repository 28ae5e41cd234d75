#include "train/step_record.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <csignal>
#include <limits>
#include <mutex>

#include "distributed/thread_group.h"

namespace matrix::train {
namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();

/// A step of two micro-batches.
StepResult result() {
    StepResult step;
    step.loss = at::scalar_tensor(1.5);
    step.loss_denoise = at::scalar_tensor(0.5);
    step.grad_norm = at::scalar_tensor(2.0);
    for (const auto& [name, counted, skipped] : {std::tuple{"sga", 5, 1}, {"spa", 3, 0}}) {
        alignment::TermResult& term = step.terms.emplace_back();
        term.name = name;
        term.loss = at::scalar_tensor(0.25);
        term.counted = counted;
        term.skipped = skipped;
    }
    step.micro_batches = {at::tensor({0.4, 0.1, 0.1}), at::tensor({0.6, 0.1, 0.1})};
    return step;
}

std::vector<BatchFacts> batches() {
    return {{{"a", "b"}, {6, 7}, at::tensor({10, 20}, at::kLong), 1, 0, 2},
            {{"c", "d"}, {8, 9}, at::tensor({30, 40}, at::kLong), 1, 1, 0}};
}

TEST(StepFacts, SumUpTheMicroBatches) {
    const StepFacts facts = facts_of(result(), batches(), 1.25);
    EXPECT_EQ(facts.images_dropped, 2);
    EXPECT_EQ(facts.captions_dropped, 1);
    EXPECT_EQ(facts.id_maps_dropped, 2);
    EXPECT_EQ(facts.counted, (std::vector<std::int64_t>{5, 3}));
    EXPECT_EQ(facts.skipped, (std::vector<std::int64_t>{1, 0}));
    EXPECT_EQ(facts.data_seconds, 1.25);
    EXPECT_EQ(facts.signal, std::nullopt);
}

/// What each of four ranks knows after they agreed.
std::vector<StepFacts> agreed(int context, std::optional<int> signal_of_last) {
    std::mutex mutex;
    std::vector<StepFacts> all;
    test::run_in_threads(4, [&](distributed::Communicator& group) {
        const Ranks ranks{group, nullptr, context};
        StepFacts facts;
        const std::int64_t own = 1 + ranks.replica();  // the ranks of a replica count alike
        facts.images_dropped = own;
        facts.captions_dropped = 2 * own;
        facts.id_maps_dropped = 3 * own;
        facts.counted = {4 * own, 5 * own};
        facts.skipped = {6 * own, 0};
        facts.data_seconds = group.rank();
        if (group.rank() == 3) {
            facts.signal = signal_of_last;
        }
        agree(facts, ranks, "step 3");
        const std::lock_guard lock(mutex);
        all.push_back(facts);
    });
    return all;
}

TEST(StepFacts, AreSumsOverTheReplicasOnEveryRank) {
    for (const int context : {1, 2, 4}) {
        const std::int64_t sum = context == 1 ? 10 : context == 2 ? 3 : 1;
        for (const StepFacts& facts : agreed(context, std::nullopt)) {
            EXPECT_EQ(facts.images_dropped, sum);
            EXPECT_EQ(facts.captions_dropped, 2 * sum);
            EXPECT_EQ(facts.id_maps_dropped, 3 * sum);
            EXPECT_EQ(facts.counted, (std::vector{4 * sum, 5 * sum}));
            EXPECT_EQ(facts.skipped, (std::vector<std::int64_t>{6 * sum, 0}));
            EXPECT_EQ(facts.data_seconds, 1.5);
            EXPECT_EQ(facts.signal, std::nullopt);
        }
    }
}

TEST(StepFacts, TellEveryRankOfASignalToOne) {
    for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) {
        for (const StepFacts& facts : agreed(1, signal)) {
            EXPECT_EQ(facts.signal, signal);
        }
    }
}

TEST(StepRecord, HoldsTheStep) {
    const StepFacts facts = facts_of(result(), batches(), 1.25);
    EXPECT_EQ(record_of(12, result(), facts, 1e-3),
              nlohmann::json::parse(R"({"step": 12, "loss": 1.5, "loss_denoise": 0.5,
                                        "learning_rate": 1e-3, "grad_norm": 2.0,
                                        "images_dropped": 2, "captions_dropped": 1,
                                        "id_maps_dropped": 2, "data_seconds": 1.25,
                                        "loss_sga": 0.25, "sga_counted": 5, "sga_skipped": 1,
                                        "loss_spa": 0.25, "spa_counted": 3, "spa_skipped": 0})"));
}

TEST(StepRecord, NamesThePartThatIsNotFinite) {
    const auto term = [](auto spoil) {
        StepResult step = result();
        spoil(step);
        return non_finite_term(record_of(1, step, facts_of(step, batches(), 0), 1e-3));
    };
    const at::Tensor nan = at::scalar_tensor(kNan),
                     infinity = at::scalar_tensor(std::numeric_limits<double>::infinity());
    EXPECT_EQ(term([](StepResult&) {}), std::nullopt);
    EXPECT_EQ(term([&](StepResult& s) { s.loss = s.loss_denoise = nan; }), "loss_denoise");
    EXPECT_EQ(term([&](StepResult& s) { s.loss = s.terms[1].loss = s.grad_norm = infinity; }),
              "loss_spa");
    EXPECT_EQ(term([&](StepResult& s) { s.loss = s.grad_norm = infinity; }), "loss")
        << "a sum that overflows";
    EXPECT_EQ(term([&](StepResult& s) { s.grad_norm = nan; }), "grad_norm");
}

TEST(StepRecord, NamesTheClipsOfLossesThatAreNotFinite) {
    StepResult step = result();
    EXPECT_EQ(name_clips(step, batches(), false), "");
    EXPECT_EQ(name_clips(step, batches(), true),
              "a (sample 6, timestep 10), b (sample 7, timestep 20), "
              "c (sample 8, timestep 30), d (sample 9, timestep 40)");
    step.micro_batches[1][2] = kNan;
    EXPECT_EQ(name_clips(step, batches(), false),
              "c (sample 8, timestep 30), d (sample 9, timestep 40)");
}

TEST(StepRecord, IsShownInALine) {
    StepResult step = result();
    EXPECT_EQ(progress_detail(record_of(1, step, facts_of(step, batches(), 0), 1e-3)),
              "loss 1.5000  denoise 0.5000  sga 0.2500  spa 0.2500");
    step.terms[0].loss = at::scalar_tensor(kNan);
    EXPECT_EQ(progress_detail(record_of(1, step, facts_of(step, batches(), 0), 1e-3)),
              "loss 1.5000  denoise 0.5000  sga nan  spa 0.2500");
}

}  // namespace
}  // namespace matrix::train
