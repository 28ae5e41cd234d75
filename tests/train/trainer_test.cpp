#include "matrix/train/trainer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "matrix/core/files.h"
#include "matrix/train/checkpoint.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"
#include "train/trainer_process.h"

namespace matrix {
namespace {

namespace fs = std::filesystem;
using test::last_state;
using test::metrics;
using test::Process;
using test::RollingBack;

void expect_same_run(const fs::path& a, const fs::path& b) {
    EXPECT_EQ(metrics(a), metrics(b));
    EXPECT_EQ(train::last_checkpoint(a)->filename(), train::last_checkpoint(b)->filename());
    for (const std::string file : {"adapter.safetensors", "optimizer.safetensors", "state.json"}) {
        EXPECT_EQ(read_text_file(*train::last_checkpoint(a) / file),
                  read_text_file(*train::last_checkpoint(b) / file))
            << file;
    }
    const fs::path adapter = fs::path("adapter") / "pytorch_lora_weights.safetensors";
    EXPECT_EQ(read_text_file(a / adapter), read_text_file(b / adapter));
}

struct Killed {};

TEST(Trainer, WritesMetricsCheckpointsAndTheAdapter) {
    const test::TempDirectory run;
    Process process;
    process.run(run.path());
    EXPECT_EQ(run.names(), (std::vector<std::string>{"adapter", "checkpoints", "config.json",
                                                     "metrics.jsonl", "performance.jsonl"}));
    const auto records = metrics(run.path());
    ASSERT_EQ(records.size(), 6u);
    for (std::size_t i = 0; i < records.size(); ++i) {
        EXPECT_EQ(records[i]["step"], i + 1);
        EXPECT_EQ(records[i]["seen"], i + 1);
        for (const char* key :
             {"loss", "loss_denoise", "loss_sga", "loss_spa", "learning_rate", "grad_norm"}) {
            EXPECT_TRUE(records[i][key].is_number()) << key;
        }
    }
    EXPECT_EQ(records[0]["learning_rate"], 0.0);
    EXPECT_EQ(records[2]["learning_rate"], process.settings.optimizer.learning_rate);
    EXPECT_EQ(process.watcher.started, std::vector<std::int64_t>{0});
    EXPECT_EQ(process.watcher.ended, std::vector<std::int64_t>{6});
    EXPECT_TRUE(fs::exists(run / "checkpoints/step-00000004/state.json"));
    EXPECT_FALSE(fs::exists(run / "checkpoints/step-00000002")) << "keep_last = 2";
    const nlohmann::json state =
        nlohmann::json::parse(read_text_file(run / "checkpoints/step-00000006/state.json"));
    EXPECT_EQ(state["next_sample"], 12);
}

TEST(Trainer, ResumedRunsHaveTheSameBits) {
    const test::TempDirectory whole, broken;
    Process().run(whole.path());
    for (const std::int64_t died_after :
         {5, 3, 4}) {  // after a checkpoint's step, between, and on one
        fs::remove_all(broken / "checkpoints");
        fs::remove(broken / "metrics.jsonl");
        Process first;
        first.watcher.after = [&](std::int64_t step) {
            if (step == died_after) {
                throw Killed{};
            }
        };
        EXPECT_THROW(first.run(broken.path()), Killed);
        Process second;
        second.run(broken.path(), train::last_checkpoint(broken.path()));
        EXPECT_EQ(second.watcher.started[0], died_after == 5 ? 4 : 2);
        expect_same_run(whole.path(), broken.path());
    }
}

TEST(Trainer, GoesThroughLaterStepsAgain) {
    const test::TempDirectory whole, again;
    Process().run(whole.path());
    Process().run(again.path());
    fs::create_directories(again / "checkpoints" / "step-00000005.tmp.1.0");
    Process second;
    second.watcher.after = [](std::int64_t step) {
        if (step == 5) {
            throw Killed{};
        }
    };
    EXPECT_THROW(second.run(again.path(), again / "checkpoints" / "step-00000004"), Killed);
    EXPECT_EQ(metrics(again.path()).size(), 4u);
    EXPECT_EQ(train::last_checkpoint(again.path()), again / "checkpoints" / "step-00000004")
        << "an old step 6 stands";
    EXPECT_FALSE(fs::exists(again / "checkpoints" / "step-00000005.tmp.1.0"));
    Process().run(again.path(), train::last_checkpoint(again.path()));
    expect_same_run(whole.path(), again.path());
}

TEST(Trainer, ACheckpointThatDoesNotFitChangesNothing) {
    const test::TempDirectory run;
    Process().run(run.path());
    write_file_atomically(run / "config.json", "{\"old\": 1}");
    const auto before = metrics(run.path());
    Process other;
    other.alpha = 4.0;
    test::expect_error([&] { other.run(run.path(), run / "checkpoints" / "step-00000004"); },
                       {"step-00000004: trained with lora.alpha = 8.0, this run's is 4.0"});
    EXPECT_EQ(read_text_file(run / "config.json"), "{\"old\": 1}");
    EXPECT_EQ(metrics(run.path()), before);
    EXPECT_TRUE(fs::exists(run / "checkpoints" / "step-00000006"));
}

TEST(Trainer, StopsAtALossThatIsNotFinite) {
    const test::TempDirectory run;
    Process process;
    train::SampleOrder order(5, test::id_map_rules().seed);
    process.clips.row_with_nan = order.row(3);  // the second of step 2
    const std::string message =
        test::expect_error([&] { process.run(run.path()); },
                           {"step 2: loss_denoise is not finite; clips: clip " +
                                std::to_string(order.row(3)) + " (sample 3, timestep ",
                            "train.non_finite"});
    EXPECT_EQ(message.find("(sample 2"), std::string::npos) << "the other clip of the step";
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_EQ(metrics(run.path()).size(), 1u);
    EXPECT_FALSE(fs::exists(run / "checkpoints")) << "nothing of a bad step is saved";
}

TEST(Trainer, SkipsALossThatIsNotFinite) {
    const test::TempDirectory run;
    Process process;
    process.settings.train.non_finite = "skip";
    train::SampleOrder order(5, test::id_map_rules().seed);
    process.clips.row_with_nan = order.row(3);
    std::map<std::int64_t, at::Tensor> values;
    process.watcher.after = [&](std::int64_t step) {
        values[step] =
            process.trajectory.trained.at("transformer.patch_embed.proj.weight").detach().clone();
    };
    process.run(run.path());
    const auto records = metrics(run.path());
    ASSERT_EQ(records.size(), 6u);
    EXPECT_TRUE(records[1]["loss"].is_null());
    EXPECT_TRUE(records[5]["loss"].is_number());
    test::expect_equal(values[2], values[1], "weights over the skipped step");
    EXPECT_FALSE(values[3].equal(values[2]));
}

// Two samples a step, a checkpoint every two steps: sample 7 is the second of step 4.

void expect_finite_steps(const fs::path& run, std::size_t count) {
    const auto records = metrics(run);
    ASSERT_EQ(records.size(), count);
    for (std::size_t i = 0; i < count; ++i) {
        EXPECT_EQ(records[i]["step"], i + 1);
        EXPECT_TRUE(records[i]["loss"].is_number()) << i + 1;
    }
}

TEST(Trainer, ScoresTheCheckpointsOfValidatedStepsAlone) {
    const test::TempDirectory run;
    Process process;
    process.settings.checkpoint.best_metric = "loss_denoise";
    process.watcher.validation = {{4, 0.5}};
    process.run(run.path());
    const nlohmann::json scored =
        nlohmann::json::parse(read_text_file(run / "checkpoints/step-00000004/state.json"));
    EXPECT_EQ(scored["score"], 0.5);
    EXPECT_EQ(scored["score_metric"], "loss_denoise");
    EXPECT_TRUE(last_state(run.path())["score"].is_null());
    EXPECT_TRUE(last_state(run.path())["score_metric"].is_null());
}

TEST(Trainer, RollsBackAndPassesOverTheSamples) {
    const test::TempDirectory run, whole;
    RollingBack process({7});
    process.run(run.path());
    expect_finite_steps(run.path(), 6);
    EXPECT_EQ(process.watcher.started, (std::vector<std::int64_t>{0, 2}));
    EXPECT_EQ(process.watcher.ended, std::vector<std::int64_t>{6});
    const nlohmann::json state = last_state(run.path());
    EXPECT_EQ(state["step"], 6);
    EXPECT_EQ(state["next_sample"], 14);
    EXPECT_EQ(state["skipped"], nlohmann::json::parse("[[6, 8]]"));
    // What came before the roll-back is what it would have been, and step 3 was taken twice alike.
    Process().run(whole.path());
    const auto rolled = metrics(run.path()), undisturbed = metrics(whole.path());
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(rolled[i], undisturbed[i]) << i + 1;
    }
    EXPECT_NE(rolled[3], undisturbed[3]);
}

TEST(Trainer, RolledBackRunsResumeWithTheSameBits) {
    const test::TempDirectory whole, broken;
    RollingBack({7}).run(whole.path());
    RollingBack first({7});
    first.watcher.after = [&](std::int64_t step) {
        if (step == 5) {
            throw Killed{};
        }
    };
    EXPECT_THROW(first.run(broken.path()), Killed);
    EXPECT_EQ(last_state(broken.path())["skipped"], nlohmann::json::parse("[[6, 8]]"));
    Process second;  // the range is in the checkpoint, so nobody reads sample 7
    second.clips.numbers_with_nan = {7};
    second.run(broken.path(), train::last_checkpoint(broken.path()));
    EXPECT_EQ(second.watcher.started[0], 4);
    expect_same_run(whole.path(), broken.path());
}

TEST(Trainer, RollsBackAgainFromANewCheckpoint) {
    const test::TempDirectory run;
    RollingBack process({7, 13});  // step 4, and step 6 once that has moved on by two samples
    process.run(run.path());
    expect_finite_steps(run.path(), 6);
    EXPECT_EQ(process.watcher.started, (std::vector<std::int64_t>{0, 2, 4}));
    EXPECT_EQ(last_state(run.path())["skipped"], nlohmann::json::parse("[[6, 8], [12, 14]]"));
    EXPECT_EQ(last_state(run.path())["next_sample"], 16);
}

TEST(Trainer, DoesNotRollBackToNothing) {
    const test::TempDirectory run;
    RollingBack process({3});  // step 2, before its checkpoint
    test::expect_error([&] { process.run(run.path()); },
                       {"train.non_finite: there is no checkpoint to roll back to"});
    EXPECT_FALSE(fs::exists(run / "checkpoints"));
    EXPECT_EQ(metrics(run.path()).size(), 1u);
}

TEST(Trainer, StopsAtASecondFailureBeforeANewCheckpoint) {
    const test::TempDirectory run;
    RollingBack process({7, 9});  // step 4 and, with the next two samples, step 4 again
    test::expect_error([&] { process.run(run.path()); },
                       {"the second step since ", "step-00000002", "not finite: the run stops"});
    EXPECT_EQ(process.watcher.started, (std::vector<std::int64_t>{0, 2}));
    EXPECT_EQ(train::last_checkpoint(run.path()), run / "checkpoints" / "step-00000002");
    EXPECT_EQ(last_state(run.path())["next_sample"], 4);
}

TEST(Trainer, GoesOnWithAnotherGlobalBatchAndSaysSo) {
    const test::TempDirectory run;
    Process first;
    first.settings.train.steps = 2;
    first.run(run.path());
    Process second;
    second.settings.train.gradient_accumulation = 3;
    ::testing::internal::CaptureStderr();
    second.run(run.path(), train::last_checkpoint(run.path()));
    const std::string said = ::testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find("the global batch was 2 clips at the checkpoint and is 3: the run goes on "
                        "from sample 4"),
              std::string::npos)
        << said;
    EXPECT_EQ(last_state(run.path())["next_sample"], 4 + 4 * 3);
    EXPECT_EQ(last_state(run.path())["global_batch"], 3);
    expect_finite_steps(run.path(), 6);
}

}  // namespace
}  // namespace matrix
