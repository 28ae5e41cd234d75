#include "matrix/models/vae.h"

#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "models/vae/decoder.h"
#include "models/vae/encoder.h"
#include "models/vae/tiling.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

namespace matrix::models {
namespace {

// Frames and latent frames of a chunk; the first chunk also takes what does not divide. Fixed in
// the reference.
constexpr std::int64_t kChunkFrames = 8;
constexpr std::int64_t kChunkLatents = 2;

/// Checks the keys of the half that is not built.
class Expecting final : public tensor_io::WeightSource {
public:
    explicit Expecting(tensor_io::WeightSource& weights) : weights_(weights) {}
    [[nodiscard]] at::Tensor take(const std::string& key, at::IntArrayRef shape) override {
        weights_.expect(key, shape);
        return {};
    }
    [[nodiscard]] bool has(const std::string& key) const override { return weights_.has(key); }
    void allow_copy(const std::string& key, const std::string& original) override {
        weights_.allow_copy(key, original);
    }
    void finish() override {}

private:
    tensor_io::WeightSource& weights_;
};

/// One clip or tile, [1, C, T, H, W] of any dtype and device, chunk by chunk.
template <typename Network>
at::Tensor run_in_chunks(const Network& network, const at::Tensor& clip, std::int64_t chunk) {
    const std::int64_t num_frames = clip.size(2);
    const std::int64_t num_chunks = std::max<std::int64_t>(num_frames / chunk, 1);
    vae::CausalCache cache;
    std::vector<at::Tensor> results;
    std::int64_t first = 0;
    for (std::int64_t i = 0; i < num_chunks; ++i) {
        const std::int64_t end = num_frames - (num_chunks - 1 - i) * chunk;
        const at::Tensor frames = clip.narrow(2, first, end - first).to(network.options());
        results.push_back(network.forward(frames, cache));
        first = end;
    }
    return at::cat(results, 2);
}

/// One sample at a time: nothing in the networks joins samples, and memory stays that of one
/// chunk.
template <typename Network>
at::Tensor run(const Network& network, const at::Tensor& input, std::int64_t chunk,
               const vae::TileGrid* grid) {
    const at::NoGradGuard no_grad;
    const auto run_clip = [&](const at::Tensor& clip) {
        return run_in_chunks(network, clip, chunk);
    };
    std::vector<at::Tensor> results;
    for (const at::Tensor& clip : input.split(1)) {
        results.push_back(grid != nullptr && grid->splits(input.size(3), input.size(4))
                              ? vae::run_tiled(clip, *grid, run_clip)
                              : run_clip(clip));
    }
    return (results.size() == 1 ? results.front() : at::cat(results)).contiguous();
}

void check_floating(const at::Tensor& input, const char* name) {
    if (!input.is_floating_point()) {
        throw RunError(std::string(name) + ": expected a floating-point dtype, got " +
                       dtype_text(input.scalar_type()));
    }
}

}  // namespace

std::int64_t spatial_downscale(const VaeConfig& config) {
    return std::int64_t{1} << (config.block_out_channels.size() - 1);
}

std::size_t num_time_levels(const VaeConfig& config) {
    return static_cast<std::size_t>(
        std::countr_zero(static_cast<std::uint64_t>(config.temporal_compression_ratio)));
}

struct VaeEncoder::Impl {
    Impl(const VaeConfig& vae_config, tensor_io::WeightSource& weights)
        : config(vae_config),
          encoder(vae_config, weights),
          grid(vae::TileGrid::for_encoding(vae_config)) {
        Expecting other_half(weights);
        static_cast<void>(vae::Decoder(config, other_half));
        weights.finish();
    }

    VaeConfig config;
    vae::Encoder encoder;
    vae::TileGrid grid;
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
    check_floating(video, "video");
    return run(impl_->encoder, video, kChunkFrames, tiling ? &impl_->grid : nullptr);
}

struct VaeDecoder::Impl {
    Impl(const VaeConfig& vae_config, tensor_io::WeightSource& weights)
        : config(vae_config),
          decoder(vae_config, weights),
          grid(vae::TileGrid::for_decoding(vae_config)) {
        Expecting other_half(weights);
        static_cast<void>(vae::Encoder(config, other_half));
        weights.finish();
    }

    VaeConfig config;
    vae::Decoder decoder;
    vae::TileGrid grid;
};

VaeDecoder::VaeDecoder(const VaeConfig& config, tensor_io::WeightSource& weights)
    : impl_(std::make_unique<Impl>(config, weights)) {}
VaeDecoder::~VaeDecoder() = default;
VaeDecoder::VaeDecoder(VaeDecoder&&) noexcept = default;

const VaeConfig& VaeDecoder::config() const {
    return impl_->config;
}

at::Tensor VaeDecoder::decode(const at::Tensor& latents, bool tiling) const {
    expect_shape(latents, {-1, impl_->config.latent_channels, -1, -1, -1}, "latents");
    if (latents.numel() == 0) {
        throw RunError("latents: " + shape_text(latents.sizes()) + " is empty");
    }
    check_floating(latents, "latents");
    return run(impl_->decoder, latents, kChunkLatents, tiling ? &impl_->grid : nullptr);
}

void take_vae_weights(const VaeConfig& config, tensor_io::WeightSource& weights) {
    static_cast<void>(vae::Encoder(config, weights));
    static_cast<void>(vae::Decoder(config, weights));
}

}  // namespace matrix::models
