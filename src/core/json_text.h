#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace matrix {

/// A JSON value as it is quoted in messages: one line of valid UTF-8, cut after 60 bytes.
[[nodiscard]] std::string quote_json(const nlohmann::json& value);

/// `number` without a fraction where it has none: "4096", "0.5", "1e-08".
[[nodiscard]] std::string number_text(double number);

/// A string as it is quoted in messages, like quote_json.
[[nodiscard]] std::string quote_text(std::string_view text);

}  // namespace matrix
