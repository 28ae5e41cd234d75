#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace matrix::imports {

/// A NumPy array [height, width] of unsigned integers of 1 or 2 bytes or of booleans.
struct NpyImage {
    std::int64_t height_px = 0, width_px = 0;
    std::vector<std::uint16_t> values;
};
/// RunError naming the file: another dtype or number of axes, Fortran order, cut short.
[[nodiscard]] NpyImage read_npy(const std::filesystem::path& file);

}  // namespace matrix::imports
