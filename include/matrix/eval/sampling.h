#pragma once

#include <cstdint>
#include <vector>

namespace matrix::eval {

/// Frames that are looked at: every fifth, the first and the last always (paper F.2). Ascending;
/// {0} for one frame. `num_frames` is at least 1.
[[nodiscard]] std::vector<std::int64_t> sampled_frames(std::int64_t num_frames);

}  // namespace matrix::eval
