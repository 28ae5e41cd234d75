#pragma once

#include "matrix/core/error.h"
#include "matrix/train/checkpoint.h"

#include <array>

namespace matrix::train {

/// The files of a checkpoint beside `state.json`.
inline constexpr std::array kTensorFiles = {"adapter.safetensors", "optimizer.safetensors"};

/// A checkpoint of a format version that this program does not know: no damage, and so not to
/// be passed over.
class OtherVersion : public RunError {
    using RunError::RunError;
};

/// What `state.json` says; the checksums by file name, none in format version 1.
struct StateFile {
    TrainState state;
    std::map<std::string, std::string> checksums;
};

/// Writes `state.json` into a directory that holds the tensor files, with the checksums of all.
void write_state(const std::filesystem::path& directory, const TrainState& state);

/// RunError (no remedy in it) for a malformed or damaged file, OtherVersion for another version.
[[nodiscard]] StateFile read_state(const std::filesystem::path& directory);

/// The same, and RunError for a tensor file whose checksum is another or that cannot be read.
[[nodiscard]] StateFile read_verified_state(const std::filesystem::path& directory);

}  // namespace matrix::train
