#include "models/vae/layers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "models/vae/group_norm.h"

namespace matrix::models::vae {
namespace {

constexpr std::int64_t kContextFrames = 2;  // kernel size 3 in time, less one
// cuDNN has no 3D kernels for tensors of 2^31 elements and slow ones before that.
constexpr std::int64_t kMaxConvElements = std::int64_t{1} << 30;

// A source hands out undefined tensors for what it misses and reports them all in finish().
at::Tensor in_layout(at::Tensor weight, at::MemoryFormat format) {
    return weight.defined() ? weight.contiguous(format) : weight;
}

at::Tensor conv3d(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  std::array<std::int64_t, 3> padding) {
    // at::conv3d leaves oneDNN for a plain loop when a single sample is "small" (C*T*H <= 20480): 4
    // to 15 times slower.
    const bool onednn = x.device().is_cpu() && x.scalar_type() == at::kFloat &&
                        at::globalContext().hasMKLDNN() && at::globalContext().userEnabledMkldnn();
    const std::array<std::int64_t, 3> ones = {1, 1, 1};
    if (onednn && x.numel() > 0) {
        return at::mkldnn_convolution(x, weight, bias, padding, ones, ones, 1);
    }
    return at::conv3d(x, weight, bias, ones, padding);
}

// [B, C, T, H, W] -> [B*T, C, H, W], without a copy in channels_last_3d memory.
at::Tensor frames_as_batch(const at::Tensor& x) {
    return x.permute({0, 2, 1, 3, 4})
        .reshape({x.size(0) * x.size(2), x.size(1), x.size(3), x.size(4)});
}

at::Tensor average_frame_pairs(const at::Tensor& x) {
    const std::int64_t odd = x.size(2) % 2;
    const std::int64_t pairs = x.size(2) / 2;
    if (pairs == 0) {
        return x;
    }
    at::Tensor pooled = at::empty({x.size(0), x.size(1), odd + pairs, x.size(3), x.size(4)},
                                  x.options(), at::MemoryFormat::ChannelsLast3d);
    if (odd == 1) {
        pooled.narrow(2, 0, 1).copy_(x.narrow(2, 0, 1));
    }
    at::Tensor means = pooled.narrow(2, odd, pairs);
    at::add_out(means, x.slice(2, odd, std::nullopt, 2), x.slice(2, odd + 1, std::nullopt, 2));
    means.mul_(0.5);
    return pooled;
}

// [B, C, T + 2, H, W], uninitialised, for x [B, C, T, H, W].
at::Tensor padded_like(const at::Tensor& x) {
    return at::empty({x.size(0), x.size(1), x.size(2) + kContextFrames, x.size(3), x.size(4)},
                     x.options(), at::MemoryFormat::ChannelsLast3d);
}

}  // namespace

CausalConv3d::CausalConv3d(std::int64_t in_channels, std::int64_t out_channels,
                           const std::string& prefix, tensor_io::WeightSource& weights)
    : weight_(in_layout(weights.take(prefix + ".conv.weight", {out_channels, in_channels, 3, 3, 3}),
                        at::MemoryFormat::ChannelsLast3d)),
      bias_(weights.take(prefix + ".conv.bias", {out_channels})) {}

at::Tensor CausalConv3d::forward(const at::Tensor& x, CausalCache& cache) const {
    at::Tensor padded = padded_like(x);
    padded.narrow(2, kContextFrames, x.size(2)).copy_(x);
    return convolve(padded, cache);
}

at::Tensor CausalConv3d::forward_silu(at::Tensor x, CausalCache& cache) const {
    at::Tensor padded = padded_like(x);
    at::Tensor body = padded.narrow(2, kContextFrames, x.size(2));
    at::silu_out(body, x);
    x.reset();
    return convolve(padded, cache);
}

at::Tensor CausalConv3d::convolve(const at::Tensor& padded, CausalCache& cache) const {
    const std::int64_t num_frames = padded.size(2) - kContextFrames;
    at::Tensor& context = cache[this];  // [B, C_in, 2, H, W]
    // An undefined context broadcasts the clip's first frame over both places.
    padded.narrow(2, 0, kContextFrames)
        .copy_(context.defined() ? context : padded.narrow(2, kContextFrames, 1));
    context = padded.narrow(2, num_frames, kContextFrames).clone();

    const std::array<std::int64_t, 3> padding = {0, 1, 1};
    if (padded.numel() <= kMaxConvElements) {
        return conv3d(padded, weight_, bias_, padding);
    }
    const std::int64_t frame_elements = padded.numel() / padded.size(2);
    const std::int64_t step =
        std::max<std::int64_t>(1, kMaxConvElements / frame_elements - kContextFrames);
    std::vector<at::Tensor> parts;
    for (std::int64_t first = 0; first < num_frames; first += step) {
        const std::int64_t count = std::min(step, num_frames - first) + kContextFrames;
        parts.push_back(conv3d(padded.narrow(2, first, count), weight_, bias_, padding));
    }
    return at::cat(parts, 2);
}

Norm::Norm(std::int64_t channels, const NormConfig& config, const std::string& prefix,
           tensor_io::WeightSource& weights)
    : config_(config) {
    const std::int64_t latent_channels = config.latent_channels;
    const std::string norm = latent_channels == 0 ? prefix : prefix + ".norm_layer";
    weight_ = weights.take(norm + ".weight", {channels});
    bias_ = weights.take(norm + ".bias", {channels});
    if (latent_channels == 0) {
        return;
    }
    const auto take = [&](const std::string& key) -> Modulation {
        return {weights.take(key + ".conv.weight", {channels, latent_channels, 1, 1, 1}),
                weights.take(key + ".conv.bias", {channels})};
    };
    scale_ = take(prefix + ".conv_y");
    shift_ = take(prefix + ".conv_b");
}

at::Tensor Norm::forward(const at::Tensor& x, const at::Tensor& latents) const {
    at::Tensor y = group_norm(x, config_.num_groups, weight_, bias_, config_.eps);
    if (!scale_.weight.defined()) {
        return y;
    }
    // A pointwise convolution and a nearest resize can be exchanged: it runs on the latents, and
    // what is as large as x is made one frame at a time.
    const auto modulation = [&](const Modulation& of) {
        return conv3d(latents, of.weight, of.bias, {0, 0, 0}).contiguous(y.suggest_memory_format());
    };
    const at::Tensor scale = modulation(scale_), shift = modulation(shift_);
    const std::int64_t num_frames = x.size(2), num_latents = latents.size(2);
    const std::int64_t alone = num_frames > 1 && num_frames % 2 == 1 ? 1 : 0;
    for (std::int64_t t = 0; t < num_frames; ++t) {
        const std::int64_t latent =
            t < alone ? 0 : alone + (t - alone) * (num_latents - alone) / (num_frames - alone);
        const auto resized = [&](const at::Tensor& of) {
            return at::upsample_nearest2d(of.select(2, latent), {x.size(3), x.size(4)});
        };
        y.select(2, t).mul_(resized(scale)).add_(resized(shift));
    }
    return y;
}

ResnetBlock::ResnetBlock(std::int64_t in_channels, std::int64_t out_channels,
                         const NormConfig& norm, const std::string& prefix,
                         tensor_io::WeightSource& weights)
    : norm1_(in_channels, norm, prefix + ".norm1", weights),
      conv1_(in_channels, out_channels, prefix + ".conv1", weights),
      norm2_(out_channels, norm, prefix + ".norm2", weights),
      conv2_(out_channels, out_channels, prefix + ".conv2", weights) {
    if (in_channels != out_channels) {
        shortcut_weight_ = in_layout(
            weights.take(prefix + ".conv_shortcut.weight", {out_channels, in_channels, 1, 1, 1}),
            at::MemoryFormat::ChannelsLast3d);
        shortcut_bias_ = weights.take(prefix + ".conv_shortcut.bias", {out_channels});
    }
}

at::Tensor ResnetBlock::forward(const at::Tensor& x, CausalCache& cache,
                                const at::Tensor& latents) const {
    at::Tensor h = conv1_.forward_silu(norm1_.forward(x, latents), cache);
    at::Tensor normed = norm2_.forward(h, latents);
    h.reset();
    h = conv2_.forward_silu(std::move(normed), cache);
    if (!shortcut_weight_.defined()) {
        return h.add_(x);
    }
    return h.add_(conv3d(x, shortcut_weight_, shortcut_bias_, {0, 0, 0}));
}

Downsampler::Downsampler(std::int64_t channels, bool compress_time, const std::string& prefix,
                         tensor_io::WeightSource& weights)
    : weight_(in_layout(weights.take(prefix + ".conv.weight", {channels, channels, 3, 3}),
                        at::MemoryFormat::ChannelsLast)),
      bias_(weights.take(prefix + ".conv.bias", {channels})),
      compress_time_(compress_time) {}

at::Tensor Downsampler::forward(const at::Tensor& x) const {
    at::Tensor padded =
        at::constant_pad_nd(compress_time_ ? average_frame_pairs(x) : x, {0, 1, 0, 1});
    const std::int64_t num_frames = padded.size(2);
    at::Tensor y =
        at::conv2d(frames_as_batch(padded), weight_, bias_, /*stride=*/2);  // [B*T, C, H/2, W/2]
    return y.view({x.size(0), num_frames, y.size(1), y.size(2), y.size(3)})
        .permute({0, 2, 1, 3, 4});
}

Upsampler::Upsampler(std::int64_t channels, bool expand_time, const std::string& prefix,
                     tensor_io::WeightSource& weights)
    : weight_(in_layout(weights.take(prefix + ".conv.weight", {channels, channels, 3, 3}),
                        at::MemoryFormat::ChannelsLast)),
      bias_(weights.take(prefix + ".conv.bias", {channels})),
      expand_time_(expand_time) {}

at::Tensor Upsampler::forward(const at::Tensor& x) const {
    const std::int64_t num_frames = x.size(2);
    at::Tensor y = at::upsample_nearest2d(frames_as_batch(x), {2 * x.size(3), 2 * x.size(4)});
    y = at::conv2d(y, weight_, bias_, /*stride=*/1, /*padding=*/1);  // [B*T, C, 2H, 2W]
    y = y.view({x.size(0), num_frames, y.size(1), y.size(2), y.size(3)});
    // The convolution sees one frame at a time, so frames are doubled behind it.
    if (expand_time_ && num_frames > 1) {
        at::Tensor counts = at::full({num_frames}, 2, x.options().dtype(at::kLong));
        counts[0] -= num_frames % 2;
        y = y.permute({0, 1, 3, 4, 2})
                .repeat_interleave(counts, 1, 2 * num_frames - num_frames % 2)
                .permute({0, 1, 4, 2, 3});
    }
    return y.permute({0, 2, 1, 3, 4});
}

}  // namespace matrix::models::vae
