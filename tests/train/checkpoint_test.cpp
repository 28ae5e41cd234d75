#include "matrix/train/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "matrix/core/files.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix {
namespace {

namespace fs = std::filesystem;

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
                   {"format version 2"});
    expect_refused("state.json", "[]", {"state.json"});
    expect_refused("state.json", "{\"step", {"state.json"});
    expect_refused("optimizer.safetensors", "short", {"optimizer.safetensors"});
    const std::string whole = read_text_file(directory / "adapter.safetensors");
    expect_refused("adapter.safetensors", whole.substr(0, whole.size() - 1),
                   {"adapter.safetensors"});
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
