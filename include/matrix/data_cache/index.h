#pragma once

#include "matrix/data_cache/config.h"
#include "matrix/data_cache/keys.h"

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace matrix::data_cache {

/// Tokens and instances of one interaction.
struct CachedInteraction {
    std::array<std::vector<std::int64_t>, 3>
        tokens;                                ///< subject, object, verb: columns of `token_mask`
    std::array<std::int64_t, 2> ids = {0, 0};  ///< subject, object: 1..5, 0 for an absent object
};

/// One row of the data set: where it came from and the entries that hold it.
struct CachedClip {
    std::string video;      ///< relative to the data set's folder, with forward slashes
    std::string mask_root;  ///< the same for the folder of its ID folders
    ClipHashes hashes;
    std::string video_key;
    std::string masks_key;   ///< empty without interactions
    std::string id_map_key;  ///< empty without an ID map
    std::string prompt_key;
    std::vector<CachedInteraction> interactions;
};

/// `index.json` of a cache: the data set as it was when the cache was prepared.
struct CacheIndex {
    DataConfig config;  ///< the fields that decide what a sample is; the others keep their defaults
    EncoderIds encoders;
    std::string metadata_file;
    std::string metadata_hash;
    std::string empty_prompt_key;
    std::vector<CachedClip> clips;

    /// RunError naming the file: missing (the remedy is `matrix prepare`), damaged, or of another
    /// format version.
    [[nodiscard]] static CacheIndex load(const std::filesystem::path& cache);
    /// Atomic: an interrupted `prepare` leaves the index before it.
    void save(const std::filesystem::path& cache) const;
};

/// Where a cache keeps its index.
[[nodiscard]] std::filesystem::path index_path(const std::filesystem::path& cache);

/// Names of the masks of one ID folder, in frame order: the .png files sorted by name, hidden ones
/// left out.
[[nodiscard]] std::vector<std::string> list_masks(const std::filesystem::path& directory);

/// What can be said of the data set's files without decoding them: one line per file that is there
/// and differs from what the cache was made from. Files that are absent are not faults: a cache may
/// travel alone.
[[nodiscard]] std::vector<std::string> changed_sources(const CacheIndex& index,
                                                       const std::filesystem::path& data,
                                                       FileHashes& hashes);

}  // namespace matrix::data_cache
