#include "matrix/train/trainer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "matrix/core/files.h"
#include "matrix/train/checkpoint.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"
#include "train/clips.h"
#include "train/trajectory.h"

namespace matrix {
namespace {

namespace fs = std::filesystem;

/// Does something after given steps, as a kill would; counts what it is told.
struct Watcher : train::StepObserver {
    std::function<void(std::int64_t)> after;
    std::vector<std::int64_t> started, ended;
    void at_start(std::int64_t step) override { started.push_back(step); }
    void after_step(std::int64_t step, nlohmann::json& record, const nlohmann::json&) override {
        record["seen"] = step;
        if (after) {
            after(step);
        }
    }
    void at_end(std::int64_t step) override { ended.push_back(step); }
};

/// Clips of which one may be poisoned.
struct Poisoned : test::Clips {
    using test::Clips::Clips;
    std::int64_t row_with_nan = -1;
    data_cache::EncodedSample get(std::int64_t row, std::uint64_t seed,
                                  std::uint64_t number) const override {
        data_cache::EncodedSample sample = test::Clips::get(row, seed, number);
        if (row == row_with_nan) {
            sample.video_moments[0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
        }
        return sample;
    }
};

/// A process of its own, as far as a run can tell.
struct Process {
    void run(const fs::path& output, const std::optional<fs::path>& resume = std::nullopt) {
        train::BatchRules rules = test::id_map_rules();
        rules.image_dropout = rules.caption_dropout = rules.id_map_dropout = 0.2;
        const lora::AdapterInfo info = {4, alpha, false, "base", 48, true};
        settings.train.steps = 6;
        settings.train.batch_size = 1;
        settings.train.gradient_accumulation = 2;
        settings.schedule = {"cosine", 2};
        settings.checkpoint = {2, 2};
        settings.output = output;
        settings.config_text = "{}\n";
        fs::create_directories(output);
        train::train({*trajectory.model,
                      trajectory.schedule,
                      *trajectory.objective,
                      clips,
                      rules,
                      info,
                      {&watcher}},
                     settings, resume);
    }

    test::Trajectory trajectory;
    Poisoned clips{5};
    Watcher watcher;
    double alpha = 8.0;
    train::RunSettings settings;
};

/// metrics.jsonl without times.
std::vector<nlohmann::json> metrics(const fs::path& run) {
    std::vector<nlohmann::json> records;
    std::istringstream lines(read_text_file(run / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
        records.push_back(nlohmann::json::parse(line));
        EXPECT_EQ(records.back().erase("step_seconds"), 1u);
        EXPECT_EQ(records.back().erase("data_seconds"), 1u);
    }
    return records;
}

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

}  // namespace
}  // namespace matrix
