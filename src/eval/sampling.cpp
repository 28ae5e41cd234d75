#include "matrix/eval/sampling.h"

namespace matrix::eval {

std::vector<std::int64_t> sampled_frames(std::int64_t num_frames) {
    constexpr std::int64_t kStride = 5;
    std::vector<std::int64_t> frames = {0};
    for (std::int64_t frame = kStride; frame < num_frames - 1; frame += kStride) {
        frames.push_back(frame);
    }
    if (num_frames > 1) {
        frames.push_back(num_frames - 1);
    }
    return frames;
}

}  // namespace matrix::eval
