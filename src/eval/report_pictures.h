#pragma once

#include <filesystem>
#include <string>

namespace matrix::eval {

/// First, middle and last frame of an overlay as HTML that holds the pictures; a line that says why
/// where they cannot be shown.
[[nodiscard]] std::string pictures(const std::filesystem::path& overlay);

}  // namespace matrix::eval
