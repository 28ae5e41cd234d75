#pragma once

#include "matrix/data_cache/keys.h"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>

namespace matrix::prepare {

/// One encoder at work; what it holds is freed with it.
using Encode = std::function<at::Tensor(const at::Tensor&)>;

/// The two encoders of a model, loaded one after the other: the text encoder alone is larger than
/// the rest.
struct Encoders {
    /// What they are, to name what they make.
    std::function<data_cache::EncoderIds(data_cache::FileHashes&)> ids;
    /// [n, L] int64 to [n, L, D_t] on the CPU, in the compute dtype.
    std::function<Encode()> load_text;
    /// [3, T, H, W] float32 in [-1, 1] on the CPU to moments [2C, F, h, w] float32 on the CPU.
    std::function<Encode()> load_video;
};

/// T5 and the VAE of a Hugging Face CogVideoX directory. Loading throws RunError for damaged or
/// missing files; nothing is loaded here.
[[nodiscard]] Encoders model_encoders(const std::filesystem::path& model, at::ScalarType dtype,
                                      at::Device device);

}  // namespace matrix::prepare
