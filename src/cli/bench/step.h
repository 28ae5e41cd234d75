#pragma once

#include <nlohmann/json.hpp>

#include "cli/bench/request.h"

namespace matrix::cli::bench {

/// `matrix bench step`: what docs/benchmarks.md says of its JSON.
[[nodiscard]] nlohmann::json bench_step(const Request& request);

}  // namespace matrix::cli::bench
