#pragma once

#include "cli/import/frame_files.h"
#include "cli/import/mask.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

// What a segmenter wrote, clip by clip. Every reader throws RunErrors that name the file.

namespace matrix::imports {

/// One instance through a clip.
struct Track {
    std::int64_t number = 0;  ///< the source's own
    std::string label;        ///< its class name, where the source has one
    /// Of frame 0 .. num_frames - 1. Called in ascending order of frames; RunError naming the file.
    std::function<Mask(std::int64_t frame)> mask;
};

struct SourceClip {
    Pictures pictures;
    std::vector<Track> tracks;  ///< by number
};

class Source {
public:
    virtual ~Source() = default;
    /// The clips by name: a path below videos/ without extension. RunError if there are none.
    [[nodiscard]] virtual std::vector<std::string> names() const = 0;
    /// Everything about one clip but its pixels. RunError with every fault.
    [[nodiscard]] virtual SourceClip open(const std::string& name) const = 0;
};

/// `videos`: where videos or folders of pictures are; empty: in the format's own places.
/// Folders of PNGs for each object, as SAM 2's scripts save them: NAME/1/00000.png,
/// NAME/id1/000.png.
[[nodiscard]] std::unique_ptr<Source> open_sam2(const std::filesystem::path& source,
                                                const std::filesystem::path& videos);
/// PNGs whose palette index or grey value is the object: Annotations/480p/NAME/00000.png.
[[nodiscard]] std::unique_ptr<Source> open_davis(const std::filesystem::path& source,
                                                 const std::filesystem::path& videos);
/// A JSON file of COCO's or YouTube-VIS's kind.
[[nodiscard]] std::unique_ptr<Source> open_coco(const std::filesystem::path& source,
                                                const std::filesystem::path& videos);
/// What Grounded-SAM-2 writes: NAME/mask_data/mask_00000.npy with NAME/json_data/mask_00000.json
/// (its tracker), or NAME/00000.json with masks in COCO's run lengths (its detector, one a frame).
[[nodiscard]] std::unique_ptr<Source> open_groundingdino(const std::filesystem::path& source,
                                                         const std::filesystem::path& videos);

/// Subfolders of a folder by name; RunError if it cannot be read.
[[nodiscard]] std::vector<std::string> subfolders(const std::filesystem::path& folder);

/// Where a clip's pictures are looked for: `videos`, and where that is empty, the places that these
/// layouts have.
[[nodiscard]] std::vector<std::filesystem::path> picture_roots(const std::filesystem::path& source,
                                                               const std::filesystem::path& videos);

}  // namespace matrix::imports
