#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

// Files that make a clip: its pictures, and one file a frame for its masks.

namespace matrix::imports {

/// Files of a folder by the number at the end of their stem ("00012.png", "frame_0012.png").
using NumberedFiles = std::map<std::int64_t, std::filesystem::path>;

/// Those with one of the extensions (".png"), whatever their case; hidden ones are left out.
/// RunError for a name without a number and for two names with the same.
[[nodiscard]] NumberedFiles numbered_files(const std::filesystem::path& folder,
                                           const std::vector<std::string>& extensions);

/// "12, 13, 14 and 7 more"
[[nodiscard]] std::string some_numbers(const std::vector<std::int64_t>& numbers);

/// A clip's frames: a video file, or one picture a frame.
struct Pictures {
    std::filesystem::path video;
    std::vector<std::filesystem::path> frames;  ///< empty where `video` is named
    std::vector<std::int64_t> numbers;          ///< of `frames`
    std::int64_t num_frames = 0;
    std::int64_t width_px = 0, height_px = 0;
};

/// ROOT/NAME.mp4 (or another video file) or the folder of pictures ROOT/NAME of the first of
/// `roots` that has one. RunError if none has, or has both.
[[nodiscard]] Pictures find_pictures(const std::vector<std::filesystem::path>& roots,
                                     const std::string& name);
/// The same for pictures that are named one by one.
[[nodiscard]] Pictures pictures_of(std::vector<std::filesystem::path> frames);

/// One file for each frame: by number where the pictures have numbers, and in order where the two
/// only count from different places. A video's frames count from 0, or from 1 if its masks do.
/// RunError that names the frames without a mask and the masks without a frame.
[[nodiscard]] std::vector<std::filesystem::path> one_a_frame(const NumberedFiles& files,
                                                             const Pictures& pictures,
                                                             const std::string& what);

}  // namespace matrix::imports
