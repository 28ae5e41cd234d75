#pragma once

#include <string>
#include <string_view>

// Text inside other formats.

namespace matrix {

/// For text and attributes of HTML and XML: & < > " by their names.
[[nodiscard]] std::string escaped_markup(std::string_view text);

/// A field of a CSV line (RFC 4180): quoted where it holds a comma, a quote or a line's end.
[[nodiscard]] std::string csv_cell(std::string_view text);

/// RFC 4648, with padding.
[[nodiscard]] std::string base64(std::string_view bytes);

}  // namespace matrix
