#pragma once

#include "cli/import/source.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace matrix::imports {

struct ImportOptions {
    std::string format;  ///< "sam2", "davis", "coco" or "groundingdino"
    std::filesystem::path source;
    std::filesystem::path to;         ///< not there yet, or an empty folder
    std::filesystem::path videos;     ///< empty: in the source
    std::filesystem::path captions;   ///< empty: the source's own metadata, if it has one
    std::filesystem::path labels;     ///< class names of the instances; may be empty
    std::vector<std::int64_t> ids;    ///< source numbers that become ID 1, 2, ...; empty: all
    double frames_per_second = 24.0;  ///< of clips made of pictures
    bool propose_roles = false;
};

struct ImportedClip {
    std::string name;
    std::string video;  ///< below videos/
    std::int64_t num_frames = 0;
    struct Instance {
        std::int64_t number = 0;
        std::string label;
    };
    std::map<std::int64_t, Instance> ids;
    std::size_t num_proposed = 0;
};

struct ImportReport {
    std::vector<ImportedClip> clips;
    std::map<std::string, std::vector<std::string>> left_out;  ///< clips and why, a line each
    std::vector<std::string> notes;
};

/// Writes the MATRIX layout at `options.to`: whole or not at all. A clip with a fault is left out
/// and the others go on; if all are, or the target cannot be written, RunError and nothing is
/// there.
[[nodiscard]] ImportReport import_dataset(const ImportOptions& options);

struct RoleReport {
    std::size_t num_clips = 0;
    std::size_t num_filled = 0;  ///< clips that had no roles and have proposals
    std::size_t num_kept = 0;    ///< clips that had roles
    std::size_t num_proposed = 0;
};

/// Fills `interactions` of the rows that have none in the metadata of a data set in the MATRIX
/// layout (`data_source::propose_into`), in place. RunError with the manifest's faults.
[[nodiscard]] RoleReport propose_roles(const std::filesystem::path& data);

}  // namespace matrix::imports
