#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "matrix/core/files.h"
#include "matrix/train/checkpoint.h"
#include "matrix/train/trainer.h"
#include "train/clips.h"
#include "train/trajectory.h"

namespace matrix::test {

namespace fs = std::filesystem;

/// Does something after given steps, as a kill would; counts what it is told.
struct Watcher : train::StepObserver {
    std::function<void(std::int64_t)> after;
    std::map<std::int64_t, double> validation;  ///< held-out loss by step
    std::vector<std::int64_t> started, ended;
    void at_start(std::int64_t step) override { started.push_back(step); }
    void after_step(std::int64_t step, nlohmann::json& record, const nlohmann::json&) override {
        record["seen"] = step;
        if (validation.count(step) != 0) {
            record["validation"] = {{"heldout", {{"loss_denoise", validation[step]}}}};
        }
        if (after) {
            after(step);
        }
    }
    void at_end(std::int64_t step) override { ended.push_back(step); }
};

/// Clips of which some may be poisoned.
struct Poisoned : Clips {
    using Clips::Clips;
    std::int64_t row_with_nan = -1;
    std::set<std::uint64_t> numbers_with_nan;  ///< samples, of whichever clip
    data_cache::EncodedSample get(std::int64_t row, std::uint64_t seed,
                                  std::uint64_t number) const override {
        data_cache::EncodedSample sample = Clips::get(row, seed, number);
        if (row == row_with_nan || numbers_with_nan.count(number) != 0) {
            sample.video_moments[0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
        }
        return sample;
    }
};

/// A process of its own, as far as a run can tell.
struct Process {
    Process() {
        settings.train.steps = 6;
        settings.train.batch_size = 1;
        settings.train.gradient_accumulation = 2;
        settings.schedule = {"cosine", 2};
        settings.checkpoint = {2, 2};
        settings.config_text = "{}\n";
    }
    void run(const fs::path& output, const std::optional<fs::path>& resume = std::nullopt,
             const train::Ranks& ranks = train::Ranks::single()) {
        train::BatchRules rules = id_map_rules();
        rules.image_dropout = rules.caption_dropout = rules.id_map_dropout = 0.2;
        const lora::AdapterInfo info = {4, alpha, false, "base", 48, true};
        settings.output = output;
        fs::create_directories(output);
        train::train({*trajectory.model,
                      trajectory.schedule,
                      *trajectory.objective,
                      clips,
                      rules,
                      info,
                      {&watcher},
                      ranks},
                     settings, resume);
    }

    Trajectory trajectory;
    Poisoned clips{5};
    Watcher watcher;
    double alpha = 8.0;
    train::RunSettings settings;
};

/// metrics.jsonl without times.
inline std::vector<nlohmann::json> metrics(const fs::path& run) {
    std::vector<nlohmann::json> records;
    std::istringstream lines(read_text_file(run / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
        records.push_back(nlohmann::json::parse(line));
        EXPECT_EQ(records.back().erase("step_seconds"), 1u);
        EXPECT_EQ(records.back().erase("data_seconds"), 1u);
    }
    return records;
}

struct RollingBack : Process {
    explicit RollingBack(std::set<std::uint64_t> numbers_with_nan) {
        settings.train.non_finite = "rollback";
        clips.numbers_with_nan = std::move(numbers_with_nan);
    }
};

/// state.json of the newest checkpoint.
inline nlohmann::json last_state(const fs::path& run) {
    return nlohmann::json::parse(read_text_file(*train::last_checkpoint(run) / "state.json"));
}

}  // namespace matrix::test
