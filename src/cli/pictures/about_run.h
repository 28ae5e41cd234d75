#pragma once

#include <string>

#include "cli/run_config.h"

namespace matrix::cli::pictures {

/// What every picture says of its run, so that none is taken for more than it shows.
[[nodiscard]] std::string about_run(const RunConfig& config);

/// Whether `init` made the base model: its weights are random, those of the VAE too.
[[nodiscard]] bool has_random_weights(const RunConfig& config);

}  // namespace matrix::cli::pictures
