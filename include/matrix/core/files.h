#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace matrix {

/// The whole of a small text file; RunError if it cannot be read, is no regular file or is larger
/// than `max_bytes`.
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path,
                                         std::size_t max_bytes = 64u << 20);

/// Writes a file so that it is complete or absent: temporary name in the same directory, fsync,
/// rename, fsync of the directory. Creates missing parent directories. RunError (path and reason)
/// on any failure, with nothing left behind; a path that is something else than a regular file (a
/// device, a pipe, a directory) is refused.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// The same for content produced piecewise: `write` is called with the open descriptor of the
/// temporary file.
void write_file_atomically(const std::filesystem::path& path,
                           const std::function<void(int descriptor)>& write);

/// write(2) until all is written; RunError naming `path` if the disk is full or the write fails.
void write_all(int descriptor, const void* data, std::size_t bytes,
               const std::filesystem::path& path);

/// Builds a directory under a temporary sibling name and renames it into place, replacing an
/// existing one; on an exception the temporary is removed and the old directory is untouched.
void write_directory_atomically(
    const std::filesystem::path& path,
    const std::function<void(const std::filesystem::path& temporary)>& fill);

/// 128-bit content hash (XXH3) of a file, as 32 hexadecimal digits.
[[nodiscard]] std::string hash_file(const std::filesystem::path& path);
/// The same of a string.
[[nodiscard]] std::string hash_text(std::string_view text);

}  // namespace matrix
