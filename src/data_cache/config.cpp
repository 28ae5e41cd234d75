#include "matrix/data_cache/config.h"

#include <algorithm>
#include <utility>

namespace matrix::data_cache {

FieldTable fields(DataConfig& c) {
    FieldTable t;
    t.add("path", &c.path, "Folder of the data set: metadata, videos/, mask_annotation/.");
    t.add("frames", &c.frames, "Frames of a clip, T = 4k + 1.").range(1, 1025);
    t.add("height", &c.height, "Pixel rows after the resize, a multiple of 16.").range(16, 8192);
    t.add("width", &c.width, "Pixel columns after the resize, a multiple of 16.").range(16, 8192);
    t.add("cache", &c.cache, "Folder of the prepared encodings; null encodes at every step.");
    t.add("resize", &c.resize,
          "`crop`: scale to cover, then cut the centre; `stretch`: straight to the size.")
        .one_of({"crop", "stretch"});
    t.add("sampling", &c.sampling,
          "Which frames: the first T (`head`), T spread evenly (`uniform`), every n-th (`stride`).")
        .one_of({"head", "uniform", "stride"});
    t.add("stride", &c.stride, "Distance of two frames for `sampling` = `stride`.").range(1, 1000);
    t.add("fps", &c.fps,
          "Rate to resample to, nearest frame in time, with `sampling` = `head`; null keeps frames "
          "as stored.")
        .above(0.0, 1000.0);
    t.add("id_map", &c.id_map, "Condition on the painted first-frame masks (16 more channels).");
    t.add("id_map_dropout", &c.id_map_dropout, "Probability of a zero ID-map latent.").range(0, 1);
    t.add("strip_id_markers", &c.strip_id_markers, "Delete `<idN>` from prompts and phrases.");
    t.add("image_dropout", &c.image_dropout, "Probability of a zero image latent.").range(0, 1);
    t.add("caption_dropout", &c.caption_dropout, "Probability of the empty prompt.").range(0, 1);
    t.add("image_noise_draws", &c.image_noise_draws,
          "Noisy versions of the first frame that the cache holds.")
        .range(1, 256);
    return t;
}

std::vector<std::string> check(const DataConfig& config, const std::string& path) {
    std::vector<std::string> faults;
    const auto fault = [&](const char* field, const std::string& text) {
        faults.push_back(path + "." + field + ": " + text);
    };
    if (config.path.empty()) {
        fault("path", "is empty; name the folder that holds metadata.jsonl and videos/");
    }
    if (config.cache && config.cache->empty()) {
        fault("cache", "is empty; name a folder, or null to encode on the fly");
    }
    if (config.frames % 4 != 1) {
        const auto below = std::max<std::int64_t>((config.frames - 1) / 4 * 4 + 1, 1);
        fault("frames", std::to_string(config.frames) + " is not 4k + 1; the nearest are " +
                            std::to_string(below) + " and " + std::to_string(below + 4));
    }
    for (const auto& [name, value] :
         {std::pair{"height", config.height}, {"width", config.width}}) {
        if (value % 16 != 0) {
            fault(name, std::to_string(value) + " is not a multiple of 16");
        }
    }
    if (config.fps && config.sampling != "head") {
        fault("fps", "goes only with data.sampling \"head\", not \"" + config.sampling + "\"");
    }
    if (config.stride != 1 && config.sampling != "stride") {
        fault("stride", "goes only with data.sampling \"stride\", not \"" + config.sampling + "\"");
    }
    return faults;
}

}  // namespace matrix::data_cache
