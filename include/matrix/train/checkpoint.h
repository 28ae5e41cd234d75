#pragma once

#include "matrix/lora/adapter.h"
#include "matrix/tensor_io/safetensors.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace matrix::train {

/// Where a run stands; `state.json` of a checkpoint.
struct TrainState {
    std::int64_t step = 0;         ///< optimizer steps done
    std::int64_t next_sample = 0;  ///< global number of the first sample not used yet
};

/// `checkpoints/step-00000500`.
[[nodiscard]] std::filesystem::path checkpoint_directory(const std::filesystem::path& run,
                                                         std::int64_t step);

/// Writes `adapter.safetensors` (every trained tensor in float32 by its name, the header describing
/// it), `optimizer.safetensors` and `state.json` under a temporary name, synced, then renamed:
/// complete or absent.
void save_checkpoint(const std::filesystem::path& directory,
                     const std::map<std::string, at::Tensor>& trained,
                     const lora::AdapterInfo& info, const tensor_io::TensorMap& optimizer,
                     const TrainState& state);

/// Copies a checkpoint's trained tensors into `trained` and gives back its state and the
/// optimizer's tensors. RunError naming every tensor that is missing, mis-shaped or not trained in
/// this run, and nothing is changed then.
struct LoadedCheckpoint {
    TrainState state;
    tensor_io::TensorMap optimizer;
};
[[nodiscard]] LoadedCheckpoint load_checkpoint(const std::filesystem::path& directory,
                                               const std::map<std::string, at::Tensor>& trained);

/// The complete checkpoint with the most steps of a run directory.
[[nodiscard]] std::optional<std::filesystem::path> last_checkpoint(
    const std::filesystem::path& run);

/// Deletes all but the newest `keep` checkpoints.
void prune_checkpoints(const std::filesystem::path& run, std::int64_t keep);

/// Makes the run directory one that ends at `step`: deletes checkpoints of later steps, which
/// belong to a course that is being left, and what a killed process left behind unfinished. The
/// number of complete checkpoints deleted.
std::int64_t discard_checkpoints_after(const std::filesystem::path& run, std::int64_t step);

}  // namespace matrix::train
