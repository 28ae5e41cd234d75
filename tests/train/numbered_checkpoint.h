#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "matrix/train/checkpoint_writer.h"

namespace matrix::test {

/// A snapshot of which every value is the same, the step plus a `fraction` below 1; the score goes
/// up and down.
inline train::Snapshot numbered_snapshot(std::int64_t step, double fraction = 0) {
    const auto values = [&] {
        return at::full({200, 200}, static_cast<double>(step) + fraction, at::kFloat);
    };
    train::TrainState state = {step, 3 * step};
    state.score = static_cast<double>(step % 7);
    return train::Snapshot::take(
        {{"heads.a", values()}, {"heads.b", values()}}, {2, 4.0, false, "models/tiny", 48, true},
        {{"exp_avg.heads.a", values()}, {"exp_avg.heads.b", values()}}, state);
}

/// Loads it, expects all of it to be of one snapshot, and returns its step.
inline std::int64_t expect_whole(const std::filesystem::path& directory) {
    const std::map<std::string, at::Tensor> into = {{"heads.a", at::zeros({200, 200})},
                                                    {"heads.b", at::zeros({200, 200})}};
    const train::LoadedCheckpoint loaded = train::load_checkpoint(directory, into);
    const std::int64_t step = loaded.state.step;
    EXPECT_EQ(directory.filename(), train::checkpoint_directory("", step).filename());
    EXPECT_EQ(loaded.state.next_sample, 3 * step);
    EXPECT_EQ(loaded.optimizer.size(), 2u);
    const double value = into.at("heads.a")[0][0].item<double>();
    EXPECT_EQ(std::floor(value), static_cast<double>(step));
    for (const auto& tensors : {into, loaded.optimizer}) {
        for (const auto& [name, tensor] : tensors) {
            EXPECT_TRUE((tensor == value).all().item<bool>()) << name;
        }
    }
    return step;
}

}  // namespace matrix::test
