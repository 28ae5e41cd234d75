#include "prepare/encode_clip.h"

#include "matrix/core/error.h"
#include "matrix/core/random.h"
#include "matrix/core/signals.h"
#include "matrix/log/progress.h"
#include "matrix/models/posterior.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace matrix::prepare {

at::Tensor noisy_first_frame(const at::Tensor& frame, std::uint64_t seed, std::uint64_t number) {
    const at::Tensor draw = keyed_normal({1}, seed, Purpose::kImageSigma, number);
    const double sigma = std::exp(-3.0 + 0.5 * draw.item<double>());
    return frame + keyed_normal(frame.sizes(), seed, Purpose::kImageNoise, number) * sigma;
}

at::Tensor encode_finite(const Encode& encode, const at::Tensor& video, const std::string& name) {
    at::Tensor moments = encode(video);
    if (!moments.isfinite().all().item<bool>()) {
        throw RunError(name +
                       ": the VAE gives values that are not finite; run the encoders in float32");
    }
    return moments;
}

tensor_io::TensorMap encode_video(const Encode& encode, const at::Tensor& video,
                                  const std::string& content_hash, std::int64_t num_versions,
                                  const std::string& name) {
    const at::Tensor first = video.narrow(1, 0, 1);  // [3, 1, H, W]
    std::vector<at::Tensor> versions;
    for (std::int64_t j = 0; j < num_versions; ++j) {
        const auto noisy =
            noisy_first_frame(first, name_key(content_hash), static_cast<std::uint64_t>(j));
        versions.push_back(encode_finite(encode, noisy, name));
    }
    return {{"video_moments", encode_finite(encode, video, name)},
            {"image_clean_moments", encode_finite(encode, first, name)},
            {"image_moments", at::stack(versions)}};
}

at::Tensor encode_id_map(const Encode& encode, const at::Tensor& id_map, const std::string& name) {
    const at::Tensor moments = encode_finite(encode, id_map.unsqueeze(1), name);  // [2C, 1, h, w]
    return models::posterior_mean(moments).contiguous();
}

void encode_prompts(const Encode& encode, const at::Tensor& input_ids,
                    const std::function<void(std::int64_t, const at::Tensor&)>& done) {
    constexpr std::int64_t kBatch = 8;
    const std::int64_t n = input_ids.size(0);
    log::Progress progress("prompts", n);
    for (std::int64_t begin = 0; begin < n; begin += kBatch) {
        poll_stop();
        const std::int64_t count = std::min(kBatch, n - begin);
        const at::Tensor embeddings = encode(input_ids.narrow(0, begin, count));  // [count, L, D_t]
        if (!embeddings.isfinite().all().item<bool>()) {
            throw RunError(
                "the text encoder gives values that are not finite; run the encoders in float32");
        }
        for (std::int64_t i = 0; i < count; ++i) {
            done(begin + i, embeddings[i]);
        }
        progress.update(begin + count);
    }
}

void poll_stop() {
    if (const auto signal = stop_signal()) {
        throw Stopped{*signal};
    }
}

}  // namespace matrix::prepare
