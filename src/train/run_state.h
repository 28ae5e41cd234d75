#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

#include "matrix/train/checkpoint.h"
#include "matrix/train/optimizer.h"
#include "matrix/train/trainer.h"

namespace matrix::train {

/// What a run changes and a checkpoint holds: trained tensors, optimizer, position.
struct RunState {
    RunState(const RunParts& parts, const RunSettings& settings);

    /// Rank 0 reads the checkpoint; every rank gets its position, and its tensors with share().
    /// RunError on every rank for one that does not fit.
    void load(const std::filesystem::path& checkpoint);
    /// Rank 0's tensors become everybody's.
    void share();
    /// RunError naming the ranks whose trained tensors or moments differ from rank 0's.
    void verify(const std::string& when) const;

    std::map<std::string, at::Tensor> trained;
    AdamW optimizer;
    TrainState position;

private:
    /// Low-rank factors mean nothing without the factor on their product; and of a rank, one line
    /// is enough.
    void check_deltas(const std::filesystem::path& checkpoint) const;
    [[nodiscard]] std::vector<at::Tensor> tensors() const;

    const RunParts& parts_;
};

}  // namespace matrix::train
