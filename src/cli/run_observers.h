#pragma once

#include <memory>
#include <vector>

#include "cli/run_config.h"
#include "matrix/data_cache/sample.h"
#include "matrix/train/trainer.h"

namespace matrix::cli {

/// What watches a run: validation, TensorBoard's file, and where this program has image files,
/// pictures and curves.
class RunObservers {
public:
    /// Everything given must outlive the observers; `held_out` may be null.
    RunObservers(const RunConfig& config, const train::RunParts& parts,
                 const data_cache::SampleSource* held_out);
    ~RunObservers();

    [[nodiscard]] std::vector<train::StepObserver*> list() const;

private:
    std::vector<std::unique_ptr<train::StepObserver>> observers_;
};

}  // namespace matrix::cli
