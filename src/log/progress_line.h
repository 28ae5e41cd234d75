#pragma once

#include <cstdint>
#include <string>

namespace matrix::log {

struct ProgressState {
    std::string label;
    std::int64_t done = 0;
    std::int64_t total = 0;  ///< 0: not known
    std::int64_t start = 0;  ///< `done` at the beginning, so that a resumed run's rate is right
    double seconds = 0;      ///< since the beginning
    std::string detail;
};

/// "train  45% 450/1000, 1.3/s, 07:03 left, loss 0.93"
[[nodiscard]] std::string progress_text(const ProgressState& state);

/// The same with a bar, in at most `columns` columns: the bar shrinks first, then the text is cut.
[[nodiscard]] std::string progress_line(const ProgressState& state, int columns);

/// "07:03", "1:07:03", "2d 03:04"
[[nodiscard]] std::string duration_text(double seconds);

}  // namespace matrix::log
