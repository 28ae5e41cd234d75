#pragma once

#include <string>
#include <string_view>

// The regular expressions of peft's rank_pattern and alpha_pattern, matched in polynomial time:
// they come from files. Understood: characters, . \d \D \w \W \s \S, escaped punctuation,
// [classes], (groups), (?:groups), alternatives, * + ? {m} {m,} {m,n} and the anchors ^ and $.

namespace matrix::lora {

/// RunError starting with `where` for a pattern that is malformed, too long or uses anything else.
void check_name_pattern(std::string_view pattern, const std::string& where);

/// Whether `name` matches "(.*\.)?(pattern)$" from its beginning, as peft asks. `pattern` has
/// passed the check.
[[nodiscard]] bool matches_name_end(std::string_view pattern, std::string_view name);

}  // namespace matrix::lora
