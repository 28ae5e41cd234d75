#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "lora/dialect.h"
#include "matrix/nn/linear.h"
#include "matrix/tensor_io/safetensors.h"

namespace matrix::lora {

/// What a LoRA file of any dialect holds, in float32.
struct LoraTensors {
    std::optional<Dialect> dialect;  ///< nothing if the file has no tensor of one
    /// By linear; scale = alpha / r where the file has an alpha for the linear, else 1.
    std::map<std::string, nn::LowRankDelta> deltas;
    at::Tensor projection_weight;  ///< the whole input projection, or undefined
    at::Tensor projection_bias;    ///< or undefined

    /// The key of a linear's A in this file's dialect.
    [[nodiscard]] std::string key_of_a(const std::string& linear) const;
};

/// RunError naming file and key for a key of no dialect or of another one than the rest unless
/// `skip` takes it, half a pair, a rank of 0, factors that do not fit together, an alpha that is
/// not one finite number.
[[nodiscard]] LoraTensors read_lora_tensors(const tensor_io::SafetensorsFile& file,
                                            const std::function<bool(const std::string&)>& skip);

/// One tensor in float32. RunError if it is not of a floating dtype or holds a value that is not
/// finite in float32.
[[nodiscard]] at::Tensor read_values(const tensor_io::SafetensorsFile& file,
                                     const std::string& key);

/// Weight and bias of the input projection under the keys given, if there, in float32 into the two
/// tensors. RunError for a bias alone and for shapes that are no projection's.
void read_projection(const tensor_io::SafetensorsFile& file, const std::string& weight,
                     const std::string& bias, at::Tensor& weight_values, at::Tensor& bias_values);

}  // namespace matrix::lora
