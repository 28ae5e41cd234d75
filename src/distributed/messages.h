#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace matrix::distributed {

/// Up to the first line feed: what others say, and what goes into a message, is one line.
[[nodiscard]] std::string first_line(std::string_view text);

/// "rank 2", "ranks 0, 1 and 3".
[[nodiscard]] std::string name_ranks(const std::vector<int>& ranks);

}  // namespace matrix::distributed
