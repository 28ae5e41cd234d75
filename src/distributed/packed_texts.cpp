#include "distributed/packed_texts.h"

#include <c10/util/Exception.h>

#include <charconv>

namespace matrix::distributed {

std::string pack_texts(const std::vector<std::string>& texts) {
    std::string packed;
    for (const std::string& text : texts) {
        packed += std::to_string(text.size()) + ":" + text;
    }
    return packed;
}

std::vector<std::string> unpack_texts(const std::string& packed) {
    std::vector<std::string> texts;
    const char* const end = packed.data() + packed.size();
    for (const char* at = packed.data(); at < end;) {
        std::size_t length = 0;
        const auto [colon, fault] = std::from_chars(at, end, length);
        TORCH_CHECK(fault == std::errc() && colon < end && *colon == ':' &&
                        length < static_cast<std::size_t>(end - colon),
                    "no packed texts at byte ", at - packed.data());
        texts.emplace_back(colon + 1, length);
        at = colon + 1 + length;
    }
    return texts;
}

}  // namespace matrix::distributed
