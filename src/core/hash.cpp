
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <xxhash.h>

#include "core/descriptor.h"
#include "matrix/core/files.h"

namespace matrix {
namespace {

std::string digits(XXH128_hash_t hash) {
    char text[33];
    std::snprintf(text, sizeof(text), "%016llx%016llx",
                  static_cast<unsigned long long>(hash.high64),
                  static_cast<unsigned long long>(hash.low64));
    return text;
}

}  // namespace

std::string hash_file(const std::filesystem::path& path) {
    const Descriptor file = open_for_reading(path);
    const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                         &XXH3_freeState);
    XXH3_128bits_reset(state.get());
    std::vector<char> buffer(1 << 20);
    while (const std::size_t bytes = read_some(file.get(), buffer.data(), buffer.size(), path)) {
        XXH3_128bits_update(state.get(), buffer.data(), bytes);
    }
    return digits(XXH3_128bits_digest(state.get()));
}

std::string hash_text(std::string_view text) {
    return digits(XXH3_128bits(text.data(), text.size()));
}

}  // namespace matrix
