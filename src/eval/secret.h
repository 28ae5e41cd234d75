#pragma once

#include <string>
#include <string_view>

namespace matrix::eval {

/// `text` with *** wherever it holds `secret`, plain or as JSON escapes it (backslashes before its
/// characters, \u and four digits instead of them), JSON within JSON included; what was JSON is
/// JSON still. A secret of fewer than 8 characters ("none", "EMPTY") is no secret, and may well be
/// part of a reply.
[[nodiscard]] std::string without_secret(std::string_view text, std::string_view secret);

}  // namespace matrix::eval
