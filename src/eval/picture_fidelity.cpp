#include <c10/util/Exception.h>

#include <array>
#include <cmath>

#include "matrix/eval/mask_metrics.h"

namespace matrix::eval {
namespace {

constexpr int kWindow = 11;
constexpr double kSigma = 1.5;
constexpr double kC1 = 0.01 * 255 * 0.01 * 255, kC2 = 0.03 * 255 * 0.03 * 255;
constexpr double kEqualDb = 100.0;

using Plane = std::vector<double>;  // [height, width]

std::array<double, kWindow> gaussian() {
    std::array<double, kWindow> weights{};
    double sum = 0.0;
    for (int i = 0; i < kWindow; ++i) {
        const double d = i - kWindow / 2;
        weights[static_cast<std::size_t>(i)] = std::exp(-d * d / (2 * kSigma * kSigma));
        sum += weights[static_cast<std::size_t>(i)];
    }
    for (double& weight : weights) {
        weight /= sum;
    }
    return weights;
}

/// Weighted means over the windows that lie in the plane: [height - 10, width - 10].
Plane window_means(const Plane& plane, std::int64_t height, std::int64_t width) {
    static const std::array<double, kWindow> kWeights = gaussian();
    const std::int64_t out_height = height - kWindow + 1, out_width = width - kWindow + 1;
    Plane rows(static_cast<std::size_t>(height * out_width));
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < out_width; ++x) {
            double sum = 0.0;
            for (int i = 0; i < kWindow; ++i) {
                sum += kWeights[static_cast<std::size_t>(i)] *
                       plane[static_cast<std::size_t>(y * width + x + i)];
            }
            rows[static_cast<std::size_t>(y * out_width + x)] = sum;
        }
    }
    Plane out(static_cast<std::size_t>(out_height * out_width));
    for (std::int64_t y = 0; y < out_height; ++y) {
        for (std::int64_t x = 0; x < out_width; ++x) {
            double sum = 0.0;
            for (int i = 0; i < kWindow; ++i) {
                sum += kWeights[static_cast<std::size_t>(i)] *
                       rows[static_cast<std::size_t>((y + i) * out_width + x)];
            }
            out[static_cast<std::size_t>(y * out_width + x)] = sum;
        }
    }
    return out;
}

Plane product(const Plane& a, const Plane& b) {
    Plane out(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
        out[i] = a[i] * b[i];
    }
    return out;
}

Plane luma(const at::Tensor& picture) {
    const auto* rgb = picture.const_data_ptr<std::uint8_t>();
    Plane plane(static_cast<std::size_t>(picture.size(0) * picture.size(1)));
    for (double& y : plane) {
        y = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
        rgb += 3;
    }
    return plane;
}

double ssim(const Plane& a, const Plane& b, std::int64_t height, std::int64_t width) {
    const auto means = [&](const Plane& plane) { return window_means(plane, height, width); };
    const Plane ma = means(a), mb = means(b);
    const Plane aa = means(product(a, a)), bb = means(product(b, b)), ab = means(product(a, b));
    double sum = 0.0;
    for (std::size_t i = 0; i < ma.size(); ++i) {
        const double variance_a = aa[i] - ma[i] * ma[i], variance_b = bb[i] - mb[i] * mb[i];
        const double covariance = ab[i] - ma[i] * mb[i];
        sum += (2 * ma[i] * mb[i] + kC1) * (2 * covariance + kC2) /
               ((ma[i] * ma[i] + mb[i] * mb[i] + kC1) * (variance_a + variance_b + kC2));
    }
    return sum / static_cast<double>(ma.size());
}

double psnr_db(const at::Tensor& a, const at::Tensor& b) {
    const auto* left = a.const_data_ptr<std::uint8_t>();
    const auto* right = b.const_data_ptr<std::uint8_t>();
    double sum = 0.0;
    for (std::int64_t i = 0; i < a.numel(); ++i) {
        const double difference = static_cast<double>(left[i]) - right[i];
        sum += difference * difference;
    }
    return sum == 0.0 ? kEqualDb
                      : 10.0 * std::log10(255.0 * 255.0 * static_cast<double>(a.numel()) / sum);
}

}  // namespace

Fidelity compare_pictures(const at::Tensor& a, const at::Tensor& b) {
    TORCH_CHECK(a.dim() == 3 && a.size(2) == 3 && a.sizes() == b.sizes() &&
                    a.scalar_type() == at::kByte && b.scalar_type() == at::kByte &&
                    a.is_contiguous() && b.is_contiguous() && a.size(0) >= kWindow &&
                    a.size(1) >= kWindow,
                "compare_pictures: two uint8 [H, W, 3] of one size from 11 x 11 on wanted, not ",
                a.sizes(), " and ", b.sizes());
    return {psnr_db(a, b), ssim(luma(a), luma(b), a.size(0), a.size(1))};
}

}  // namespace matrix::eval
