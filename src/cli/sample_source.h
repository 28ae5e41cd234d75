#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "cli/run_config.h"
#include "matrix/data_cache/sample.h"
#include "matrix/distributed/communicator.h"

namespace matrix::cli {

/// "auto" is a GPU where there is one: the one of this process's place among those of its machine.
/// RunError if a GPU is asked for and there is none, or too few.
[[nodiscard]] at::Device choose_device(const std::string& name, int local_rank = 0);

/// All ranks call these together. The clips of a data block: a prepared cache (brought up to date
/// first where this program has decoders), or encoders on the fly where `data.cache` is null.
[[nodiscard]] std::unique_ptr<data_cache::SampleSource> open_samples(
    const RunConfig& config, const data_cache::DataConfig& data, at::ScalarType dtype,
    at::Device device, distributed::Communicator& ranks);

/// The held-out clips of `validation.data`, cached beside the training cache, or null.
[[nodiscard]] std::unique_ptr<data_cache::SampleSource> open_held_out(
    const RunConfig& config, at::ScalarType dtype, at::Device device,
    distributed::Communicator& ranks);

/// The data block of the held-out clips.
[[nodiscard]] data_cache::DataConfig held_out_data(const RunConfig& config);

}  // namespace matrix::cli
