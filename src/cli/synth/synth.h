#pragma once

#include <cstdint>
#include <filesystem>

namespace matrix::synth {

struct SynthOptions {
    std::filesystem::path out;  ///< created; may exist only if it is an empty directory
    std::int64_t clips = 0;     ///< 1 to 999999
    std::uint64_t seed = 0;
    std::int64_t frames = 17;  ///< of each clip, 5 to 10000
    std::int64_t height = 96;  ///< pixels, even, 32 to 4096
    std::int64_t width = 160;  ///< pixels, even, 32 to 4096
    double fps = 8.0;
};

/// Writes a data set of small interaction scenes in the MATRIX layout: `metadata.jsonl`,
/// `videos/000001.mp4`, ... and one binary mask PNG per frame and character,
/// `mask_annotation/000001/<id1>/000.png`, ... (angle brackets included). The masks are exact: a
/// pixel is a character's when that character makes up more than half of it as seen. Clip i depends
/// on (seed, i) and the frame geometry alone, so a longer data set begins with a shorter one's
/// clips. `out` is complete or absent. UsageError for options out of range, RunError where `out` is
/// taken or cannot be written.
void synthesize(const SynthOptions& options);

}  // namespace matrix::synth
