#pragma once

#include <string>

#include "matrix/lora/config.h"

namespace matrix::lora {

/// Whether `config` gives the linear a delta.
[[nodiscard]] bool is_target(const std::string& linear, const LoraConfig& config);

}  // namespace matrix::lora
