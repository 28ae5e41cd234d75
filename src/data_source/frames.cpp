#include "matrix/data_source/frames.h"

#include "matrix/core/error.h"

#include <cmath>
#include <cstdio>

namespace matrix::data_source {
namespace {

std::string seconds_text(double seconds) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f s", seconds);
    return text;
}

std::vector<std::int64_t> nearest_in_time(const std::vector<double>& times, double fps,
                                          std::int64_t count) {
    // Time stamps are rationals rounded to double: a tie is anything closer than this.
    constexpr double kTie = 1e-9;
    std::vector<std::int64_t> indices;
    std::size_t at = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const double wanted = static_cast<double>(i) / fps;
        double nearest = std::abs(times[at] - wanted);
        for (std::size_t j = at + 1; j < times.size() && times[j] - wanted < nearest - kTie; ++j) {
            if (std::abs(times[j] - wanted) < nearest - kTie) {
                nearest = std::abs(times[j] - wanted);
                at = j;
            }
        }
        indices.push_back(static_cast<std::int64_t>(at));
    }
    return indices;
}

// A clip that outlasts its video would end in a frozen frame.
void check_duration(const data_cache::DataConfig& config, const media::VideoInfo& info,
                    const std::filesystem::path& video) {
    const double last_shown = info.timestamps_seconds.back() +
                              (info.frames_per_second > 0.0 ? 1.0 / info.frames_per_second : 0.0);
    const double wanted = static_cast<double>(config.frames - 1) / *config.fps;
    if (wanted > last_shown + 1e-6) {
        const auto available = static_cast<std::int64_t>(last_shown * *config.fps) + 1;
        throw RunError(video.string() + ": lasts " + seconds_text(last_shown) + ", which gives " +
                       std::to_string(available) + " frames at data.fps; data.frames is " +
                       std::to_string(config.frames));
    }
}

}  // namespace

std::vector<std::int64_t> frame_indices(const data_cache::DataConfig& config,
                                        const media::VideoInfo& info,
                                        const std::filesystem::path& video) {
    const std::int64_t count = config.frames;
    const std::int64_t step = config.sampling == "stride" ? config.stride : 1;
    const std::int64_t needed = (count - 1) * step + 1;
    if (info.num_frames < needed) {
        throw RunError(video.string() + ": has " + std::to_string(info.num_frames) + " frames, " +
                       std::to_string(needed) +
                       " are needed (data.frames = " + std::to_string(count) +
                       (step > 1 ? ", data.stride = " + std::to_string(step) : "") + ")");
    }
    if (config.fps) {
        check_duration(config, info, video);
        return nearest_in_time(info.timestamps_seconds, *config.fps, count);
    }
    std::vector<std::int64_t> indices;
    for (std::int64_t i = 0; i < count; ++i) {
        indices.push_back(config.sampling == "uniform" ? i * info.num_frames / count : i * step);
    }
    return indices;
}

}  // namespace matrix::data_source
