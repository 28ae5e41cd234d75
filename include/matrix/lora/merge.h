#pragma once

#include "matrix/lora/adapter.h"

#include <ATen/core/Tensor.h>

#include <string>

namespace matrix::lora {

/// Whether the checkpoint's tensor `key` ("transformer_blocks.7.attn1.to_q.weight") is another one
/// with the adapter merged in.
[[nodiscard]] bool changes(const Adapter& adapter, const std::string& key);

/// That tensor in float32: W + scale B A, with the input projection's weight and bias replaced
/// first where they were trained whole, and its columns filled up with zeros where the adapter has
/// more (an ID map's). `base`: the checkpoint's tensor in any floating dtype. The adapter has to
/// fit the model, as `attach` checks; TORCH_CHECK otherwise.
[[nodiscard]] at::Tensor merged(const Adapter& adapter, const std::string& key,
                                const at::Tensor& base);

}  // namespace matrix::lora
