#pragma once

#include <optional>
#include <string>

namespace matrix::eval {

/// Three decimals, or a dash.
[[nodiscard]] std::string decimals(const std::optional<double>& value);

}  // namespace matrix::eval
