#include "matrix/alignment/heads.h"

#include "matrix/core/error.h"
#include "matrix/core/random.h"

#include <ATen/ATen.h>

#include <cmath>

// M maps, F latent frames, gh x gw cells, C channels; a cell is 4 frames of 16 x 16 pixels, of
// which frame 0 has only the last.

namespace matrix::alignment {
namespace {

constexpr std::int64_t kFrames = 4;
constexpr std::int64_t kPixels = kernels::kCellPixels;
constexpr std::int64_t kChannels = 16;  // chosen here: 0.8 GFLOP an entity at 13 x 30 x 45
const double kGammaInit = std::log(std::expm1(1.0));  // softplus of it is 1
constexpr double kBetaInit = -3.0;

// [M, C, F, h, w] -> the same, where frame f sees frames f-2 .. f: the first frame is repeated in
// front of itself, as the video's own autoencoder does.
at::Tensor causal_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    const at::Tensor first = x.narrow(2, 0, 1).expand({-1, -1, weight.size(2) - 1, -1, -1});
    return at::conv3d(at::cat({first, x}, 2), weight, bias, /*stride=*/1, /*padding=*/{0, 1, 1});
}

// [M, C, F, h, w] -> [M, F, h, w, C] @ [C, out] + bias
at::Tensor pointwise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    return at::linear(x.permute({0, 2, 3, 4, 1}), weight, bias);
}

// Half-pixel linear interpolation along a row of cells, [gw, 16 gw]: the backward of a product adds
// in a fixed order on a GPU too, where an upsampling's does not.
at::Tensor weights_along(const at::Tensor& map) {
    const std::int64_t gw = map.size(3);
    return at::upsample_linear1d(at::eye(gw, map.options()).unsqueeze(0), {kPixels * gw},
                                 /*align_corners=*/false)
        .squeeze(0);
}

class NamedHead : public Head {
protected:
    NamedHead(std::string name, std::uint64_t seed, at::Device device)
        : name_(std::move(name)), seed_(seed), device_(device) {}

    at::Tensor constant(const std::string& leaf, at::IntArrayRef shape, double value) {
        return keep(name_ + "." + leaf, at::full(shape, value, at::kFloat));
    }
    at::Tensor normal(const std::string& leaf, at::IntArrayRef shape, double deviation) {
        const std::string key = name_ + "." + leaf;
        return keep(key, keyed_normal(shape, seed_, Purpose::kHeadInit, name_key(key)) * deviation);
    }
    // A convolution's weight, variance-preserving for SiLU.
    at::Tensor kernel(const std::string& leaf, std::int64_t out, std::int64_t in) {
        return normal(leaf, {out, in, 3, 3, 3}, std::sqrt(2.0 / static_cast<double>(in * 27)));
    }

private:
    at::Tensor keep(const std::string& key, const at::Tensor& value) {
        return parameters_[key] = value.to(device_).requires_grad_(true);
    }

    std::string name_;
    std::uint64_t seed_;
    at::Device device_;
};

class AffineHead : public NamedHead {
public:
    AffineHead(const std::string& name, std::uint64_t seed, at::Device device)
        : NamedHead(name, seed, device),
          gamma_(constant("gamma", {1}, kGammaInit)),
          beta_(constant("beta", {1}, kBetaInit)) {}

    // The bilinear weights of a pixel sum to 1, so slope and offset may be applied where the map is
    // small.
    kernels::CellLogits logits(const at::Tensor& map) const override {
        return {(at::softplus(gamma_) * map + beta_).matmul(weights_along(map)), {}, kFrames};
    }

private:
    at::Tensor gamma_, beta_;
};

class ResidualHead : public AffineHead {
public:
    ResidualHead(const std::string& name, std::uint64_t seed, at::Device device)
        : AffineHead(name, seed, device),
          weight_in_(kernel("residual.conv_in.weight", kChannels, 1)),
          bias_in_(constant("residual.conv_in.bias", {kChannels}, 0)),
          weight_mid_(kernel("residual.conv_mid.weight", kChannels, kChannels)),
          bias_mid_(constant("residual.conv_mid.bias", {kChannels}, 0)),
          weight_out_(constant("residual.conv_out.weight", {kOut, kChannels}, 0)),
          bias_out_(constant("residual.conv_out.bias", {kOut}, 0)) {}

    kernels::CellLogits logits(const at::Tensor& map) const override {
        kernels::CellLogits logits = AffineHead::logits(map);
        at::Tensor x = map.unsqueeze(1);                       // [M, 1, F, gh, gw]
        x = at::silu(causal_conv(x, weight_in_, bias_in_));    // [M, C, F, gh, gw]
        x = at::silu(causal_conv(x, weight_mid_, bias_mid_));  // [M, C, F, gh, gw]
        logits.cells = pointwise(x, weight_out_, bias_out_);
        return logits;
    }

private:
    static constexpr std::int64_t kOut = kFrames * kPixels * kPixels;
    at::Tensor weight_in_, bias_in_, weight_mid_, bias_mid_, weight_out_, bias_out_;
};

// Mirrors the autoencoder's way up in time: a stage doubles the frames and drops the first, so that
// latent frame 0 keeps standing for frame 0 alone.
class ConvHead : public NamedHead {
public:
    ConvHead(const std::string& name, std::uint64_t seed, at::Device device)
        : NamedHead(name, seed, device),
          weight_in_(kernel("conv_in.weight", kChannels, 1)),
          bias_in_(constant("conv_in.bias", {kChannels}, 0)),
          weight_up_(kernel("conv_up.weight", 2 * kChannels, kChannels)),
          bias_up_(constant("conv_up.bias", {2 * kChannels}, 0)),
          weight_mid_(kernel("conv_mid.weight", kChannels, kChannels)),
          bias_mid_(constant("conv_mid.bias", {kChannels}, 0)),
          weight_out_(normal("conv_out.weight", {kOut, kChannels}, 1.0 / std::sqrt(kChannels))),
          bias_out_(constant("conv_out.bias", {kOut}, 0)) {}

    kernels::CellLogits logits(const at::Tensor& map) const override {
        const std::int64_t frames = map.size(1);
        at::Tensor x = map.unsqueeze(1);                     // [M, 1, F, gh, gw]
        x = at::silu(causal_conv(x, weight_in_, bias_in_));  // [M, C, F, gh, gw]
        x = at::silu(causal_conv(x, weight_up_, bias_up_));  // [M, 2C, F, gh, gw]
        x = x.unflatten(1, {kChannels, 2})                   // [M, C, 2, F, gh, gw]
                .permute({0, 1, 3, 2, 4, 5})
                .flatten(2, 3)
                .narrow(2, 1, 2 * frames - 1);                 // [M, C, 2F-1, gh, gw]
        x = at::silu(causal_conv(x, weight_mid_, bias_mid_));  // [M, C, 2F-1, gh, gw]
        return {{}, pointwise(x, weight_out_, bias_out_), 2};
    }

private:
    static constexpr std::int64_t kOut = 2 * kPixels * kPixels;
    at::Tensor weight_in_, bias_in_, weight_up_, bias_up_, weight_mid_, bias_mid_, weight_out_,
        bias_out_;
};

}  // namespace

std::unique_ptr<Head> make_head(const std::string& kind, const std::string& name,
                                std::uint64_t seed, at::Device device) {
    if (kind == "affine") {
        return std::make_unique<AffineHead>(name, seed, device);
    }
    if (kind == "residual") {
        return std::make_unique<ResidualHead>(name, seed, device);
    }
    if (kind == "conv") {
        return std::make_unique<ConvHead>(name, seed, device);
    }
    throw UsageError("alignment.head: \"" + kind + "\" is none of residual, affine, conv");
}

at::Tensor repeat_cells(const at::Tensor& map) {
    const std::int64_t maps = map.size(0), frames = map.size(1), gh = map.size(2), gw = map.size(3);
    return map.view({maps, frames, 1, gh, 1, gw, 1})
        .expand({maps, frames, kFrames, gh, kPixels, gw, kPixels})
        .reshape({maps, kFrames * frames, kPixels * gh, kPixels * gw})
        .narrow(1, kFrames - 1, kFrames * (frames - 1) + 1);
}

}  // namespace matrix::alignment
