#pragma once

#include <cstdint>
#include <vector>

namespace matrix::imports {

/// One instance in one frame.
struct Mask {
    std::int64_t height_px = 0, width_px = 0;
    std::vector<std::uint8_t> pixels;  ///< [height, width] of zeros and ones
};

}  // namespace matrix::imports
