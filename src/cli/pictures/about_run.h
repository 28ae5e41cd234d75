#pragma once

#include <string>

#include "cli/run_config.h"

namespace matrix::cli::pictures {

/// What every picture says of its run, so that none is taken for more than it shows.
[[nodiscard]] std::string about_run(const RunConfig& config);

}  // namespace matrix::cli::pictures
