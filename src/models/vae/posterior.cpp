#include "matrix/models/vae_encoder.h"

#include "matrix/core/shape.h"

#include <ATen/ATen.h>

namespace matrix::models {
namespace {

// The reference's bounds of the log-variance.
constexpr double kMinLogvar = -30.0;
constexpr double kMaxLogvar = 20.0;

void check_moments(const at::Tensor& moments) {
    TORCH_CHECK(moments.dim() >= 2 && moments.size(1) % 2 == 0,
                "moments: expected [B, 2C, ...], got ", shape_text(moments.sizes()));
}

}  // namespace

at::Tensor sample_posterior(const at::Tensor& moments, const at::Tensor& noise) {
    check_moments(moments);
    const std::int64_t channels = moments.size(1) / 2;
    const at::Tensor mean = moments.narrow(1, 0, channels);  // [B, C, ...]
    expect_shape(noise, mean.sizes(), "posterior noise");
    const at::Tensor std =
        moments.narrow(1, channels, channels).clamp(kMinLogvar, kMaxLogvar).mul_(0.5).exp_();
    return mean + std * noise.to(moments.options());
}

at::Tensor posterior_mean(const at::Tensor& moments) {
    check_moments(moments);
    return moments.narrow(1, 0, moments.size(1) / 2);
}

}  // namespace matrix::models
