#pragma once

#include "cli/import/source.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>

namespace matrix::imports {

/// The place that is written to fails, and not a clip: an import ends with it.
class TargetError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Writes videos/NAME.mp4 (a copy of the video file, or its pictures encoded) and
/// mask_annotation/NAME/<idN>/000.png ... below `root`; the video's name below videos/. Pictures of
/// an odd size lose a row or a column, and their masks too. RunError with what is wrong with the
/// source; what was written of the clip is then to be removed with remove_clip.
[[nodiscard]] std::string write_clip(const std::filesystem::path& root, const std::string& name,
                                     const Pictures& pictures,
                                     const std::map<std::int64_t, Track>& tracks,
                                     double frames_per_second);

/// Removes what a failed write_clip of these arguments has left, and nothing else.
void remove_clip(const std::filesystem::path& root, const std::string& name,
                 const Pictures& pictures, const std::map<std::int64_t, Track>& tracks);

}  // namespace matrix::imports
