#pragma once

#include <string>

#include "matrix/lora/model_card.h"

namespace matrix::lora {

/// The card's section on how to load the files that were written, with their own names.
[[nodiscard]] std::string loading_section(const CardFacts& facts);

}  // namespace matrix::lora
