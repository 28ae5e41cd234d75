#pragma once

#include <string>
#include <vector>

namespace matrix::distributed {

/// Several texts of any bytes in one: each as "length:text".
[[nodiscard]] std::string pack_texts(const std::vector<std::string>& texts);
[[nodiscard]] std::vector<std::string> unpack_texts(const std::string& packed);

}  // namespace matrix::distributed
