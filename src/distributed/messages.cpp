#include "distributed/messages.h"

namespace matrix::distributed {

std::string first_line(std::string_view text) {
    return std::string(text.substr(0, text.find('\n')));
}

std::string name_ranks(const std::vector<int>& ranks) {
    std::string text = ranks.size() == 1 ? "rank " : "ranks ";
    for (std::size_t i = 0; i < ranks.size(); ++i) {
        if (i > 0) {
            text += i + 1 == ranks.size() ? " and " : ", ";
        }
        text += std::to_string(ranks[i]);
    }
    return text;
}

}  // namespace matrix::distributed
