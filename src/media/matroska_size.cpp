#include "media/matroska_size.h"

#include <bit>
#include <fstream>

namespace matrix::media {

namespace {

/// An EBML number: the position of the first set bit of its first byte is its length in bytes.
/// Element IDs keep that bit, sizes drop it; a size of ones only means "unknown".
std::optional<std::uint64_t> read_number(std::ifstream& file, bool is_size) {
    const int first = file.get();
    if (first <= 0) {
        return std::nullopt;
    }
    const int num_bytes = std::countl_zero(static_cast<std::uint8_t>(first)) + 1;
    std::uint64_t value = static_cast<std::uint64_t>(first);
    for (int i = 1; i < num_bytes; ++i) {
        const int byte = file.get();
        if (byte < 0) {
            return std::nullopt;
        }
        value = value << 8 | static_cast<std::uint64_t>(byte);
    }
    if (is_size) {
        const std::uint64_t mask = (std::uint64_t{1} << (7 * num_bytes)) - 1;
        value &= mask;
        if (value == mask) {
            return std::nullopt;
        }
    }
    return value;
}

}  // namespace

std::optional<std::uint64_t> matroska_size_bytes(const std::filesystem::path& path) {
    constexpr std::uint64_t kHeader = 0x1A45DFA3, kSegment = 0x18538067, kMaxHeader_bytes = 4096;
    std::ifstream file(path, std::ios::binary);
    if (read_number(file, false) != kHeader) {
        return std::nullopt;
    }
    const auto header_bytes = read_number(file, true);
    if (!header_bytes || *header_bytes > kMaxHeader_bytes) {
        return std::nullopt;
    }
    file.seekg(static_cast<std::streamoff>(*header_bytes), std::ios::cur);
    if (read_number(file, false) != kSegment) {
        return std::nullopt;
    }
    const auto segment_bytes = read_number(file, true);
    if (!segment_bytes) {
        return std::nullopt;
    }
    return static_cast<std::uint64_t>(file.tellg()) + *segment_bytes;
}

}  // namespace matrix::media
