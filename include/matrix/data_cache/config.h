#pragma once

#include "matrix/core/fields.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace matrix::data_cache {

/// The block "data" of a run. It stands here, below the decoders, because a program without them
/// still trains from a prepared cache.
struct DataConfig {
    std::string path = "data/train";
    std::int64_t frames = 49;  ///< T, 4k + 1
    std::int64_t height = 480;
    std::int64_t width = 720;
    std::optional<std::string> cache = "cache/train";  ///< none: encode on the fly
    std::string resize = "crop";
    std::string sampling = "head";
    std::int64_t stride = 1;
    std::optional<double> fps;
    bool id_map = true;
    double id_map_dropout = 0.1;
    bool strip_id_markers = true;
    double image_dropout = 0.05;
    double caption_dropout = 0.0;
    std::int64_t image_noise_draws = 8;
};

[[nodiscard]] FieldTable fields(DataConfig& config);

/// Faults that no single range shows, one line each, starting with the field's dotted path below
/// `path`: frames that are not 4k + 1, sides that are not multiples of 16, `fps` or `stride`
/// without the sampling they belong to.
[[nodiscard]] std::vector<std::string> check(const DataConfig& config,
                                             const std::string& path = "data");

}  // namespace matrix::data_cache
