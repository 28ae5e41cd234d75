#pragma once

#include "matrix/lora/adapter.h"
#include "matrix/tensor_io/safetensors.h"

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace matrix::train {

/// Where a run stands; `state.json` of a checkpoint.
struct TrainState {
    std::int64_t step = 0;          ///< optimizer steps done
    std::int64_t next_sample = 0;   ///< global number of the first sample not used yet
    std::int64_t global_batch = 0;  ///< clips a step used; 0: unknown
    /// Half-open ranges of sample numbers that are left out after a roll-back.
    std::vector<std::array<std::int64_t, 2>> skipped = {};
    /// Of this very step's validation, never of an earlier one; with it goes the metric's name.
    std::optional<double> score = std::nullopt;
    std::string score_metric = {};
    std::string config = {};  ///< the resolved configuration, a JSON object; empty: unknown
};

/// `checkpoints/step-00000500`.
[[nodiscard]] std::filesystem::path checkpoint_directory(const std::filesystem::path& run,
                                                         std::int64_t step);

/// Writes `adapter.safetensors` (every trained tensor in float32 by its name, the header describing
/// it), `optimizer.safetensors` and `state.json` with the checksums of all three under a temporary
/// name, synced, then renamed: complete or absent. `before_rename` is called when the files are
/// written; if it throws, there is no checkpoint.
void save_checkpoint(const std::filesystem::path& directory,
                     const std::map<std::string, at::Tensor>& trained,
                     const lora::AdapterInfo& info, const tensor_io::TensorMap& optimizer,
                     const TrainState& state, const std::function<void()>& before_rename = {});

/// The state alone, of format version 1 or 2. RunError for a file that is malformed, damaged or of
/// another version; the tensors are not looked at.
[[nodiscard]] TrainState checkpoint_state(const std::filesystem::path& directory);

/// Copies a checkpoint's trained tensors into `trained` and gives back its state and the
/// optimizer's tensors. RunError naming the file whose checksum is not that of `state.json`, or
/// every tensor that is missing, mis-shaped or not trained in this run, and nothing is changed
/// then. Checkpoints of format version 1 have no checksums.
struct LoadedCheckpoint {
    TrainState state;
    tensor_io::TensorMap optimizer;
};
[[nodiscard]] LoadedCheckpoint load_checkpoint(const std::filesystem::path& directory,
                                               const std::map<std::string, at::Tensor>& trained);

/// Whether a run directory holds a complete checkpoint, sound or damaged; reads none.
[[nodiscard]] bool has_checkpoints(const std::filesystem::path& run);

/// The complete checkpoint with the most steps whose checksums hold and whose files can be read;
/// every newer one that is damaged is passed over with a warning. RunError if there are checkpoints
/// and all are damaged, or if the newest sound one is of a format version that this program does
/// not know.
[[nodiscard]] std::optional<std::filesystem::path> last_checkpoint(
    const std::filesystem::path& run);

/// The validation score by which the best checkpoint is known.
struct BestRule {
    std::string metric;
    bool lowest = false;  ///< whether a lower score is better

    /// Of a value of `checkpoint.best_metric`: the lowest loss, the highest of the others.
    [[nodiscard]] static BestRule of(const std::string& metric);
};

/// The score `metric` of a step's `validation` object (train/validation.h): of the held-out clips
/// where there are any, else of the training clips. Nothing if the step was not validated or no
/// clip defines the score.
[[nodiscard]] std::optional<double> checkpoint_score(const nlohmann::json& validation,
                                                     const std::string& metric);

/// Deletes all but the newest `keep` checkpoints and, with a rule, the one with the best score of
/// its metric (of equal ones the newest).
void prune_checkpoints(const std::filesystem::path& run, std::int64_t keep,
                       const std::optional<BestRule>& best = std::nullopt);

/// Makes the run directory one that ends at `step`: deletes checkpoints of later steps, which
/// belong to a course that is being left, and what a killed process left behind unfinished. The
/// number of complete checkpoints deleted.
std::int64_t discard_checkpoints_after(const std::filesystem::path& run, std::int64_t step);

}  // namespace matrix::train
