#include "models/vae/group_norm.h"

#include <ATen/ATen.h>

namespace matrix::models::vae {
namespace {

// A sum over one frame's positions goes by halves, not value after value; what is made of the sums
// is float64. One frame at a time, since the squares need memory.
at::Tensor on_cpu(const at::Tensor& x, std::int64_t groups, const at::Tensor& weight,
                  const at::Tensor& bias, double eps) {
    const std::int64_t batch = x.size(0), channels = x.size(1), members = channels / groups;
    const auto frame = [&](std::int64_t t) { return x.select(2, t).to(at::kFloat); };
    const auto by_group = [&](const at::Tensor& values) {  // [B, C, H, W] to [B, groups, 1]
        const at::Tensor by_channel = values.sum(at::IntArrayRef{2, 3}).to(at::kDouble);
        return by_channel.view({batch, groups, members}).sum(2, true);
    };
    at::Tensor sum = at::zeros({batch, groups, 1}, x.options().dtype(at::kDouble));
    at::Tensor sum_of_squares = at::zeros_like(sum), squares = at::empty_like(frame(0));
    for (std::int64_t t = 0; t < x.size(2); ++t) {
        const at::Tensor values = frame(t);
        sum += by_group(values);
        sum_of_squares += by_group(at::square_out(squares, values));
    }
    const auto count = static_cast<double>(members * x.size(2) * x.size(3) * x.size(4));
    const at::Tensor mean = sum / count;
    const at::Tensor variance = (sum_of_squares / count - mean.square()).clamp_min_(0);
    const auto parameter = [&](const at::Tensor& of) {
        return of.to(at::kDouble).view({1, groups, members});
    };
    const at::Tensor scale = parameter(weight) / (variance + eps).sqrt();  // [B, groups, members]
    const at::Tensor shift = parameter(bias) - mean * scale;
    const auto of_frame = [&](const at::Tensor& values) {
        return values.reshape({batch, channels, 1, 1}).to(at::kFloat);
    };
    const at::Tensor factor = of_frame(scale), offset = of_frame(shift);
    at::Tensor y = at::empty_like(x);
    for (std::int64_t t = 0; t < x.size(2); ++t) {
        at::Tensor out = y.select(2, t);
        at::addcmul_out(out, offset, frame(t), factor);
    }
    return y;
}

}  // namespace

at::Tensor group_norm(const at::Tensor& x, std::int64_t groups, const at::Tensor& weight,
                      const at::Tensor& bias, double eps) {
    return x.is_cpu() ? on_cpu(x, groups, weight, bias, eps)
                      : at::group_norm(x, groups, weight, bias, eps);
}

}  // namespace matrix::models::vae
