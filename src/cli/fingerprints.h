#pragma once

#include <filesystem>
#include <string>

namespace matrix::cli {

/// One hash of a file, or of the files directly in a directory and below it.
[[nodiscard]] std::string hash_path(const std::filesystem::path& path);

/// Names, sizes and times of the files in a directory: what tells one state of it from another
/// without reading it. A path that is no directory has that of an empty one.
[[nodiscard]] std::string fingerprint(const std::filesystem::path& directory);

}  // namespace matrix::cli
