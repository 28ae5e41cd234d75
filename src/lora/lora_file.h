#pragma once

#include <functional>
#include <map>
#include <string>

#include "matrix/nn/linear.h"
#include "matrix/tensor_io/safetensors.h"

namespace matrix::lora {

/// Deltas by linear, in float32, from a file's pairs "transformer.<linear>.lora_{A|B}.weight";
/// their scale is 1. RunError naming file and key for any other key unless `skip` takes it, half a
/// pair, a rank of 0, factors that do not fit together.
[[nodiscard]] std::map<std::string, nn::LowRankDelta> read_pairs(
    const tensor_io::SafetensorsFile& file, const std::function<bool(const std::string&)>& skip);

/// One tensor in float32. RunError if it is not of a floating dtype or holds a value that is not
/// finite in float32.
[[nodiscard]] at::Tensor read_values(const tensor_io::SafetensorsFile& file,
                                     const std::string& key);

}  // namespace matrix::lora
