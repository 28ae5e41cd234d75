#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace matrix::media {

/// A file made by scripts/fixtures/make_media.py.
inline std::filesystem::path fixture(const std::string& name) {
    return std::filesystem::path(MATRIX_FIXTURES) / "media" / name;
}

inline std::string bytes_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline std::filesystem::path write_bytes(const std::filesystem::path& path,
                                         const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
}

}  // namespace matrix::media
