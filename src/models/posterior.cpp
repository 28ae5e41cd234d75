#include "matrix/models/posterior.h"

#include "matrix/core/shape.h"

#include <ATen/ATen.h>

namespace matrix::models {
namespace {

// The reference's bounds of the log-variance.
constexpr double kMinLogvar = -30.0;
constexpr double kMaxLogvar = 20.0;

}  // namespace

at::Tensor posterior_mean(const at::Tensor& moments) {
    TORCH_CHECK(moments.dim() >= 1 && moments.size(0) % 2 == 0, "moments: expected [2C, ...], got ",
                shape_text(moments.sizes()));
    return moments.narrow(0, 0, moments.size(0) / 2);
}

at::Tensor sample_posterior(const at::Tensor& moments, const at::Tensor& noise) {
    const at::Tensor mean = posterior_mean(moments);  // [C, ...]
    const std::int64_t channels = mean.size(0);
    expect_shape(noise, mean.sizes(), "posterior noise");
    const at::Tensor std =
        moments.narrow(0, channels, channels).clamp(kMinLogvar, kMaxLogvar).mul_(0.5).exp_();
    return mean + std * noise.to(moments.options());
}

}  // namespace matrix::models
