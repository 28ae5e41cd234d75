#include "matrix/train/checkpoint.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "matrix/core/files.h"
#include "matrix/train/config.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kA = "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight";
const std::string kB = "transformer.transformer_blocks.0.attn1.to_q.lora_B.weight";
const std::string kGamma = "heads.grounding.gamma";

using Tensors = std::map<std::string, at::Tensor>;

Tensors trained(double value) {
    Tensors tensors = {{kA, at::full({2, 6}, value)},
                       {kB, at::full({6, 2}, value + 1)},
                       {kGamma, at::full({1}, value)}};
    for (auto& [name, tensor] : tensors) {
        tensor.set_requires_grad(true);
    }
    return tensors;
}

const lora::AdapterInfo kInfo = {2, 4.0, false, "models/tiny", 48, true};

void save(const fs::path& run, std::int64_t step, double value = 0) {
    train::save_checkpoint(train::checkpoint_directory(run, step), trained(value), kInfo,
                           {{"step.x", at::full({}, value)}}, {step, 3 * step});
}

void save_with_score(const fs::path& run, std::int64_t step, double score,
                     const std::string& metric) {
    train::TrainState state = {step, 3 * step};
    state.score = score;
    state.score_metric = metric;
    train::save_checkpoint(train::checkpoint_directory(run, step), trained(0), kInfo,
                           {{"step.x", at::zeros({})}}, state);
}

std::vector<std::string> names(const fs::path& directory) {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(directory)) {
        all.push_back(entry.path().filename().string());
    }
    std::sort(all.begin(), all.end());
    return all;
}

TEST(Checkpoint, RoundTripsBitForBit) {
    const test::TempDirectory run;
    Tensors saved = trained(0);
    for (auto& [name, tensor] : saved) {
        tensor.detach().normal_();
    }
    const at::Tensor moment = at::randn({2, 6});
    const fs::path directory = train::checkpoint_directory(run.path(), 12);
    EXPECT_EQ(directory, run / "checkpoints" / "step-00000012");
    train::save_checkpoint(directory, saved, kInfo, {{"exp_avg." + kA, moment}}, {12, 36});
    EXPECT_EQ(names(directory), (std::vector<std::string>{"adapter.safetensors",
                                                          "optimizer.safetensors", "state.json"}));

    const Tensors into = trained(7);
    const train::LoadedCheckpoint loaded = train::load_checkpoint(directory, into);
    EXPECT_EQ(loaded.state.step, 12);
    EXPECT_EQ(loaded.state.next_sample, 36);
    for (const auto& [name, tensor] : saved) {
        test::expect_equal(into.at(name), tensor, name);
        EXPECT_TRUE(into.at(name).requires_grad());
    }
    ASSERT_EQ(loaded.optimizer.size(), 1u);
    test::expect_equal(loaded.optimizer.at("exp_avg." + kA), moment, "moment");
}

TEST(Checkpoint, ReportsEveryTensorThatDoesNotFitAndTakesNone) {
    const test::TempDirectory run;
    save(run.path(), 1, 3);
    Tensors other = trained(0);
    other.erase(kGamma);
    other[kA] = at::zeros({5, 6});
    other["heads.propagation.beta"] = at::zeros({1});
    const std::string message = test::expect_error(
        [&] { (void)train::load_checkpoint(train::checkpoint_directory(run.path(), 1), other); },
        {kA + " has shape [2, 6], this run's has [5, 6]",
         kGamma + " is not trained by this run's configuration",
         "heads.propagation.beta is missing, and this run trains it"});
    EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 2);
    EXPECT_EQ(other.at(kB)[0][0].item<float>(), 1.0f) << "changed although others do not fit";
}

TEST(Checkpoint, RefusesDamagedFiles) {
    const test::TempDirectory run;
    const fs::path directory = train::checkpoint_directory(run.path(), 1);
    const auto expect_refused = [&](const std::string& file, const std::string& content,
                                    std::initializer_list<std::string_view> parts) {
        save(run.path(), 1, 3);
        write_file_atomically(directory / file, content);
        const Tensors into = trained(0);
        test::expect_error([&] { (void)train::load_checkpoint(directory, into); }, parts);
        EXPECT_EQ(into.at(kA)[0][0].item<float>(), 0.0f) << file << ": " << content;
    };
    expect_refused("state.json", "{\"format_version\": 1, \"step\": 1}",
                   {"state.json: next_sample is missing"});
    expect_refused("state.json", "{\"format_version\": 1, \"step\": -1, \"next_sample\": 0}",
                   {"state.json: step"});
    expect_refused("state.json", "{\"format_version\": 2, \"step\": 1, \"next_sample\": 0}",
                   {"state.json: checksums is missing; resume from another checkpoint"});
    test::expect_error([&] { (void)train::checkpoint_state(directory); },
                       {"state.json: checksums is missing; resume from another checkpoint"});
    for (const std::string version : {"3", "0"}) {
        expect_refused("state.json",
                       "{\"format_version\": " + version + ", \"step\": 1, \"next_sample\": 0}",
                       {"state.json: format version " + version + ", this program reads 1 to 2"});
    }
    expect_refused("state.json", "[]", {"state.json"});
    expect_refused("state.json", "{\"step", {"state.json"});
    expect_refused("optimizer.safetensors", "short", {"optimizer.safetensors"});
    const std::string whole = read_text_file(directory / "adapter.safetensors");
    expect_refused("adapter.safetensors", whole.substr(0, whole.size() - 1),
                   {"adapter.safetensors: its content is not what was written; resume from"});
}

TEST(Checkpoint, KeepsTheWholeState) {
    const test::TempDirectory run;
    train::TrainState state = {12, 36};
    state.global_batch = 3;
    state.skipped = {{6, 9}, {12, 15}};
    state.score = 0.1 + 0.2;
    state.score_metric = "auc_v2t";
    state.config = R"({"train": {"steps": 4000}, "optimizer": {"learning_rate": 1e-4}})";
    const fs::path directory = train::checkpoint_directory(run.path(), 12);
    train::save_checkpoint(directory, trained(0), kInfo, {{"step.x", at::zeros({})}}, state);
    for (const train::TrainState& read : {train::checkpoint_state(directory),
                                          train::load_checkpoint(directory, trained(7)).state}) {
        EXPECT_EQ(read.step, 12);
        EXPECT_EQ(read.next_sample, 36);
        EXPECT_EQ(read.global_batch, 3);
        EXPECT_EQ(read.skipped, state.skipped);
        EXPECT_EQ(read.score, state.score);
        EXPECT_EQ(read.score_metric, "auc_v2t");
        EXPECT_EQ(nlohmann::json::parse(read.config), nlohmann::json::parse(state.config));
    }
    const nlohmann::json text = nlohmann::json::parse(read_text_file(directory / "state.json"));
    EXPECT_EQ(text["checksums"]["adapter.safetensors"],
              hash_file(directory / "adapter.safetensors"));
    EXPECT_EQ(text["config"]["train"]["steps"], 4000);
}

TEST(Checkpoint, ReadsFormatVersion1) {
    const test::TempDirectory run;
    save(run.path(), 12, 3);
    const fs::path directory = train::checkpoint_directory(run.path(), 12);
    write_file_atomically(directory / "state.json",
                          "{\"format_version\": 1, \"step\": 12, \"next_sample\": 36}");
    EXPECT_EQ(train::last_checkpoint(run.path()), directory);
    const Tensors into = trained(0);
    const train::TrainState state = train::load_checkpoint(directory, into).state;
    EXPECT_EQ(into.at(kA)[0][0].item<float>(), 3.0f);
    EXPECT_EQ(state.step, 12);
    EXPECT_EQ(state.next_sample, 36);
    EXPECT_EQ(state.global_batch, 0);
    EXPECT_EQ(state.skipped.size(), 0u);
    EXPECT_EQ(state.score, std::nullopt);
    EXPECT_EQ(state.config, "");
}

TEST(Checkpoint, SeesEveryChangedByte) {
    const test::TempDirectory run;
    const fs::path directory = train::checkpoint_directory(run.path(), 12);
    for (const std::string name : {"adapter.safetensors", "optimizer.safetensors", "state.json"}) {
        fs::remove_all(run / "checkpoints");
        save_with_score(run.path(), 12, 0.5, "auc_v2t");
        const std::string whole = read_text_file(directory / name);
        for (std::size_t i = 0; i < whole.size(); ++i) {
            std::string changed = whole;
            changed[i] = static_cast<char>(changed[i] ^ (1 << i % 8));
            std::ofstream(directory / name, std::ios::binary) << changed;
            const Tensors into = trained(7);
            try {
                const train::TrainState state = train::load_checkpoint(directory, into).state;
                EXPECT_EQ(name, "state.json") << "byte " << i;  // where layout may differ
                EXPECT_EQ(state.step, 12) << "byte " << i;
                EXPECT_EQ(state.next_sample, 36) << "byte " << i;
                EXPECT_EQ(state.score, 0.5) << "byte " << i;
            } catch (const RunError& error) {
                EXPECT_THAT(error.what(), HasSubstr(directory.string())) << "byte " << i;
                EXPECT_EQ(into.at(kA)[0][0].item<float>(), 7.0f) << "byte " << i;
            }
        }
    }
}

TEST(Checkpoint, FindsTheLastCompleteOne) {
    const test::TempDirectory run;
    EXPECT_FALSE(train::last_checkpoint(run.path()));
    save(run.path(), 9);
    save(run.path(), 100000000);  // more digits than the name's padding
    EXPECT_EQ(train::last_checkpoint(run.path()), run / "checkpoints" / "step-100000000");
    fs::remove(run / "checkpoints" / "step-100000000" / "state.json");
    fs::copy(run / "checkpoints" / "step-00000009", run / "checkpoints" / "step-00000010.tmp.77.0");
    fs::copy(run / "checkpoints" / "step-00000009", run / "checkpoints" / "step-00000011-kept");
    EXPECT_EQ(train::last_checkpoint(run.path()), run / "checkpoints" / "step-00000009");
}

std::string warnings_of(const std::function<void()>& run) {
    ::testing::internal::CaptureStderr();
    run();
    return ::testing::internal::GetCapturedStderr();
}

TEST(Checkpoint, PassesDamagedOnesOver) {
    const test::TempDirectory run;
    EXPECT_FALSE(train::has_checkpoints(run.path()));
    const auto directory = [&](std::int64_t step) {
        return train::checkpoint_directory(run.path(), step);
    };
    const auto damage = [&](std::int64_t step, const std::string& name, bool truncate) {
        std::string content = read_text_file(directory(step) / name);
        content[content.size() / 2] ^= 1;
        write_file_atomically(directory(step) / name,
                              truncate ? content.substr(0, content.size() / 2) : content);
    };
    for (const std::string name : {"adapter.safetensors", "optimizer.safetensors", "state.json"}) {
        for (const bool truncate : {true, false}) {
            for (const std::int64_t step : {2, 4, 6}) {
                save(run.path(), step);
            }
            EXPECT_EQ(
                warnings_of([&] { EXPECT_EQ(train::last_checkpoint(run.path()), directory(6)); }),
                "");
            damage(6, name, truncate);
            damage(4, name, !truncate);
            const std::string warnings = warnings_of([&] {
                EXPECT_EQ(train::last_checkpoint(run.path()), directory(2)) << name << truncate;
            });
            for (const std::int64_t step : {4, 6}) {
                EXPECT_THAT(warnings, HasSubstr((directory(step) / name).string()));
            }
            EXPECT_THAT(warnings, HasSubstr("; " + directory(2).string() + " is taken instead"));
            damage(2, name, truncate);
            test::expect_error([&] { (void)train::last_checkpoint(run.path()); },
                               {"checkpoints: every checkpoint is damaged; start a new run",
                                (directory(2) / name).string(), (directory(6) / name).string()});
            EXPECT_TRUE(train::has_checkpoints(run.path()));
        }
    }
}

// A run that went on from an earlier one would delete it, though it may be sound.
TEST(Checkpoint, WhatCannotBeReadNowIsNotPassedOver) {
    const test::TempDirectory run;
    save(run.path(), 2);
    save(run.path(), 4);
    const fs::path file = train::checkpoint_directory(run.path(), 4) / "adapter.safetensors";
    fs::remove(file);
    EXPECT_EQ(train::last_checkpoint(run.path()), train::checkpoint_directory(run.path(), 2));
    fs::create_symlink(file, file);
    test::expect_error([&] { (void)train::last_checkpoint(run.path()); },
                       {file.string() + ": cannot open: "});
}

TEST(Checkpoint, AnotherVersionIsNoDamage) {
    const test::TempDirectory run;
    save(run.path(), 2);
    save(run.path(), 4);
    const fs::path file = train::checkpoint_directory(run.path(), 4) / "state.json";
    write_file_atomically(file, "{\"format_version\": 3, \"steps\": [4]}");
    test::expect_error([&] { (void)train::last_checkpoint(run.path()); },
                       {file.string() + ": format version 3, this program reads 1 to 2"});
}

TEST(Checkpoint, AFailedSaveLeavesTheOldOne) {
    const test::TempDirectory run;
    save(run.path(), 1, 3);
    Tensors bad = trained(0);
    bad[kA] = at::Tensor();
    EXPECT_ANY_THROW(
        train::save_checkpoint(train::checkpoint_directory(run.path(), 1), bad, kInfo, {}, {1, 1}));
    EXPECT_EQ(names(run / "checkpoints"), std::vector<std::string>{"step-00000001"});
    const Tensors into = trained(0);
    (void)train::load_checkpoint(train::checkpoint_directory(run.path(), 1), into);
    EXPECT_EQ(into.at(kA)[0][0].item<float>(), 3.0f);
}

TEST(Checkpoint, PrunesTheOldest) {
    const test::TempDirectory run;
    for (const std::int64_t step : {2, 4, 10, 100}) {
        save(run.path(), step);
    }
    train::prune_checkpoints(run.path(), 4);
    EXPECT_EQ(names(run / "checkpoints").size(), 4u);
    train::prune_checkpoints(run.path(), 2);
    EXPECT_EQ(names(run / "checkpoints"),
              (std::vector<std::string>{"step-00000010", "step-00000100"}));
}

TEST(Checkpoint, PrunesAllButTheBest) {
    const test::TempDirectory run;
    const auto save_scores = [&](const std::string& metric) {
        fs::remove_all(run / "checkpoints");
        save_with_score(run.path(), 1, 0.9, metric);
        save_with_score(run.path(), 2, 0.2, metric);
        save_with_score(run.path(), 3, 0.9, metric);
        save(run.path(), 4);
        save_with_score(run.path(), 5, 0.5, metric);
        save(run.path(), 6);
    };
    const auto left = [&](const std::string& metric) {
        train::prune_checkpoints(run.path(), 2, train::BestRule::of(metric));
        std::string steps;
        for (const std::string& name : names(run / "checkpoints")) {
            steps += name.back();
        }
        return steps;
    };
    save_scores("auc_v2t");
    EXPECT_EQ(left("auc_v2t"), "356") << "of two equal ones the newer";
    save_scores("loss_denoise");
    EXPECT_EQ(left("loss_denoise"), "256");
    save_scores("loss_denoise");
    EXPECT_EQ(left("auc_v2t"), "56") << "scores of another metric say nothing";
    save_scores("auc_v2t");
    write_file_atomically(train::checkpoint_directory(run.path(), 3) / "state.json", "{}");
    EXPECT_EQ(left("auc_v2t"), "156") << "a damaged one is not best";
    save_with_score(run.path(), 7, 0.1, "auc_v2t");
    EXPECT_EQ(left("auc_v2t"), "167") << "the best stays";
}

TEST(Checkpoint, TakesTheScoreOfHeldOutClipsFirst) {
    const nlohmann::json train_alone = {{"train", {{"auc_v2t", 0.6}, {"bind_v2t", nullptr}}}};
    nlohmann::json both = train_alone;
    both["heldout"] = {{"auc_v2t", 0.5}};
    EXPECT_EQ(train::checkpoint_score(train_alone, "auc_v2t"), 0.6);
    EXPECT_EQ(train::checkpoint_score(both, "auc_v2t"), 0.5);
    EXPECT_EQ(train::checkpoint_score(both, "loss_denoise"), std::nullopt);
    EXPECT_EQ(train::checkpoint_score(train_alone, "bind_v2t"), std::nullopt);
    EXPECT_EQ(train::checkpoint_score(nullptr, "auc_v2t"), std::nullopt);
}

TEST(Checkpoint, TheBestIsOfAScoreThatThereIs) {
    train::CheckpointConfig config;
    train::ValidationConfig validation;
    alignment::AlignmentConfig alignment;
    const auto faults = [&](const char* metric) {
        config.best_metric = metric;
        return train::check({}, config, validation, alignment);
    };
    EXPECT_EQ(train::check({}, config, validation, alignment).size(), 0u);
    ASSERT_EQ(faults("loss_denoise").size(), 1u);
    EXPECT_THAT(faults("loss_denoise")[0], HasSubstr("validation.every_steps = 0"));
    validation.every_steps = 5;
    alignment.spa.reset();
    EXPECT_EQ(faults("loss_denoise").size(), 0u);
    EXPECT_EQ(faults("bind_v2t").size(), 0u);
    ASSERT_EQ(faults("enrich_v2v").size(), 1u);
    EXPECT_THAT(faults("enrich_v2v")[0], HasSubstr("alignment.spa, which is null"));
    std::vector<std::string> unknown;
    train::fields(config).set("best_metric=auc", unknown);
    EXPECT_EQ(unknown.size(), 1u);
}

TEST(Checkpoint, ARollbackWantsCheckpoints) {
    train::TrainConfig train;
    train.non_finite = "rollback";
    train::CheckpointConfig config;
    EXPECT_TRUE(train::check(train, config, {}, {}).empty());
    config.every_steps = 0;
    ASSERT_EQ(train::check(train, config, {}, {}).size(), 1u);
    EXPECT_THAT(train::check(train, config, {}, {})[0],
                ::testing::StartsWith("train.non_finite: \"rollback\""));
    train.non_finite = "skip";
    EXPECT_TRUE(train::check(train, config, {}, {}).empty());
}

TEST(Checkpoint, DiscardsLaterAndUnfinishedOnes) {
    const test::TempDirectory run;
    for (const std::int64_t step : {2, 4, 6}) {
        save(run.path(), step);
    }
    const auto copy = [&](const std::string& to) {
        fs::copy(run / "checkpoints" / "step-00000002", run / "checkpoints" / to);
    };
    copy("step-00000001");
    fs::remove(run / "checkpoints" / "step-00000001" / "state.json");
    copy("step-00000008.tmp.77.0");
    copy("mine");
    copy("notes.tmp.old");
    EXPECT_EQ(train::discard_checkpoints_after(run.path(), 4), 1);
    EXPECT_EQ(
        names(run / "checkpoints"),
        (std::vector<std::string>{"mine", "notes.tmp.old", "step-00000002", "step-00000004"}));
    EXPECT_EQ(train::discard_checkpoints_after(run / "nowhere", 0), 0);
}

}  // namespace
}  // namespace matrix
