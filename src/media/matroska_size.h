#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace matrix::media {

/// The length in bytes that a Matroska or WebM file says it has: libav reads a shorter one to its
/// end without a word. Nothing for other files and for live streams, which leave the length open.
[[nodiscard]] std::optional<std::uint64_t> matroska_size_bytes(const std::filesystem::path& path);

}  // namespace matrix::media
