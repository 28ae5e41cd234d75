#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "cli/run_config.h"
#include "matrix/data_cache/sample.h"
#include "matrix/train/trainer.h"

namespace matrix::cli::samples {

/// Latents [1, F, C, h, w] of a video from a clip's first frame, ID map and prompt, by the backbone
/// as it is: the halves of guidance one after the other. Nothing where `go_on` says no after a
/// step.
[[nodiscard]] std::optional<at::Tensor> sample_latents(const data_cache::EncodedSample& clip,
                                                       const at::Tensor& empty_prompt,
                                                       const RunConfig& config,
                                                       const train::RunParts& parts,
                                                       const std::function<bool()>& go_on);

/// [T, H, W, 3] uint8 of latents that may have frames of padding in front. Loads the decoder and
/// lets go of it.
[[nodiscard]] at::Tensor decode(const at::Tensor& latents, const RunConfig& config,
                                const train::RunParts& parts);

/// What a data set's files say of a clip.
struct Source {
    at::Tensor frames;  ///< on the training grid, [T, H, W, 3] uint8; undefined without its file
    std::string prompt;
};

/// Empty, with a line in the log, where the data set is not there (a copied cache).
[[nodiscard]] Source read_source(const data_cache::DataConfig& data, const std::string& video);

}  // namespace matrix::cli::samples
