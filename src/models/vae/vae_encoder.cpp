#include "matrix/models/vae_encoder.h"

#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "models/vae/decoder_weights.h"
#include "models/vae/encoder.h"
#include "models/vae/tiling.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <string>

namespace matrix::models {
namespace {

// Frames per chunk; the first chunk also takes what does not divide. Fixed in the reference.
constexpr std::int64_t kChunkFrames = 8;

}  // namespace

std::int64_t spatial_downscale(const VaeConfig& config) {
    return std::int64_t{1} << (config.block_out_channels.size() - 1);
}

struct VaeEncoder::Impl {
    Impl(const VaeConfig& vae_config, tensor_io::WeightSource& weights)
        : config(vae_config), encoder(vae_config, weights) {
        vae::for_each_decoder_weight(config, [&](const std::string& key, at::IntArrayRef shape) {
            weights.expect(key, shape);
        });
        weights.finish();
    }

    // One clip or tile, [1, 3, T, H, W] of any dtype and device, chunk by chunk.
    at::Tensor encode_chunks(const at::Tensor& video) const {
        const std::int64_t num_frames = video.size(2);
        const std::int64_t num_chunks = std::max<std::int64_t>(num_frames / kChunkFrames, 1);
        vae::CausalCache cache;
        std::vector<at::Tensor> moments;
        std::int64_t first = 0;
        for (std::int64_t i = 0; i < num_chunks; ++i) {
            const std::int64_t end = num_frames - (num_chunks - 1 - i) * kChunkFrames;
            const at::Tensor frames = video.narrow(2, first, end - first).to(encoder.options());
            moments.push_back(encoder.forward(frames, cache));
            first = end;
        }
        return at::cat(moments, 2);
    }

    VaeConfig config;
    vae::Encoder encoder;
};

VaeEncoder::VaeEncoder(const VaeConfig& config, tensor_io::WeightSource& weights)
    : impl_(std::make_unique<Impl>(config, weights)) {}
VaeEncoder::~VaeEncoder() = default;
VaeEncoder::VaeEncoder(VaeEncoder&&) noexcept = default;

const VaeConfig& VaeEncoder::config() const {
    return impl_->config;
}

at::Tensor VaeEncoder::encode(const at::Tensor& video, bool tiling) const {
    expect_shape(video, {-1, impl_->config.in_channels, -1, -1, -1}, "video");
    const std::int64_t downscale = spatial_downscale(impl_->config);
    if (video.numel() == 0 || video.size(3) % downscale != 0 || video.size(4) % downscale != 0) {
        throw RunError("video: expected at least one frame and height and width multiples of " +
                       std::to_string(downscale) + ", got " + shape_text(video.sizes()));
    }
    if (!video.is_floating_point()) {
        throw RunError("video: expected a floating-point dtype, got " +
                       dtype_text(video.scalar_type()));
    }

    const at::NoGradGuard no_grad;
    const vae::TileGrid grid(impl_->config);
    const auto encode_clip = [&](const at::Tensor& clip) { return impl_->encode_chunks(clip); };
    // One sample at a time: nothing in the network joins samples, and memory stays that of one
    // chunk.
    std::vector<at::Tensor> moments;
    for (const at::Tensor& clip : video.split(1)) {
        moments.push_back(tiling && grid.splits(video.size(3), video.size(4))
                              ? vae::encode_tiled(clip, grid, downscale, encode_clip)
                              : encode_clip(clip));
    }
    return at::cat(moments).contiguous();
}

void take_vae_weights(const VaeConfig& config, tensor_io::WeightSource& weights) {
    const vae::Encoder encoder(config, weights);
    vae::for_each_decoder_weight(config, [&](const std::string& key, at::IntArrayRef shape) {
        static_cast<void>(weights.take(key, shape));
    });
}

}  // namespace matrix::models
