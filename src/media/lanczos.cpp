#include "matrix/media/geometry.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace matrix::media {
namespace {

constexpr double kSupport = 3.0;  // lobes of the windowed sinc
constexpr int kPrecisionBits =
    22;  // of a weight: 8 bits of a pixel and 2 of head room are left of 32

double sinc(double x) {
    if (x == 0.0) {
        return 1.0;
    }
    const double angle = std::numbers::pi * x;
    return std::sin(angle) / angle;
}

double lanczos(double x) {
    return std::abs(x) < kSupport ? sinc(x) * sinc(x / kSupport) : 0.0;
}

/// What one output pixel takes: `weights` in fixed point, of the input pixels from `first`.
struct Taps {
    std::int64_t first = 0;
    std::vector<std::int32_t> weights;
};

/// Of an axis that goes from `in` to `out` pixels; the filter widens where it shrinks.
std::vector<Taps> make_taps(std::int64_t in, std::int64_t out) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double widening = std::max(scale, 1.0), support = kSupport * widening;
    std::vector<Taps> all(static_cast<std::size_t>(out));
    for (std::int64_t i = 0; i < out; ++i) {
        Taps& taps = all[static_cast<std::size_t>(i)];
        const double center = (static_cast<double>(i) + 0.5) * scale;
        taps.first = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
        const std::int64_t end = std::min(static_cast<std::int64_t>(center + support + 0.5), in);
        std::vector<double> weights;
        double sum = 0.0;
        for (std::int64_t pixel = taps.first; pixel < end; ++pixel) {
            weights.push_back(
                lanczos((static_cast<double>(pixel) - center + 0.5) * (1.0 / widening)));
            sum += weights.back();
        }
        for (const double weight : weights) {
            const double fixed = (sum != 0.0 ? weight / sum : weight) * (1 << kPrecisionBits);
            taps.weights.push_back(
                static_cast<std::int32_t>(fixed < 0.0 ? fixed - 0.5 : fixed + 0.5));
        }
    }
    return all;
}

std::uint8_t round_off(std::int64_t sum) {
    return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> kPrecisionBits, 0, 255));
}

/// [h, w, 3] to [h, width, 3].
at::Tensor resize_rows(const at::Tensor& image, std::int64_t width) {
    const std::int64_t rows = image.size(0), in = image.size(1);
    const std::vector<Taps> all = make_taps(in, width);
    at::Tensor result = at::empty({rows, width, 3}, at::kByte);
    const std::uint8_t* source = image.const_data_ptr<std::uint8_t>();
    std::uint8_t* target = result.mutable_data_ptr<std::uint8_t>();
    for (std::int64_t row = 0; row < rows; ++row, source += in * 3) {
        for (const Taps& taps : all) {
            for (std::int64_t channel = 0; channel < 3; ++channel) {
                std::int64_t sum = std::int64_t{1} << (kPrecisionBits - 1);
                const std::uint8_t* pixel = source + taps.first * 3 + channel;
                for (const std::int32_t weight : taps.weights) {
                    sum += std::int64_t{weight} * *pixel;
                    pixel += 3;
                }
                *target++ = round_off(sum);
            }
        }
    }
    return result;
}

/// The same along the first axis.
at::Tensor resize_columns(const at::Tensor& image, std::int64_t height) {
    return resize_rows(image.transpose(0, 1).contiguous(), height).transpose(0, 1).contiguous();
}

}  // namespace

at::Tensor resize_lanczos(const at::Tensor& image, std::int64_t height_px, std::int64_t width_px) {
    TORCH_CHECK(image.scalar_type() == at::kByte && image.dim() == 3 && image.size(2) == 3 &&
                    image.numel() > 0 && height_px > 0 && width_px > 0,
                "resize_lanczos: uint8 [h, w, 3] and a size wanted, not ", image.sizes(), " to ",
                height_px, " x ", width_px);
    at::Tensor result = image.contiguous();
    if (result.size(1) != width_px) {
        result = resize_rows(result, width_px);
    }
    if (result.size(0) != height_px) {
        result = resize_columns(result, height_px);
    }
    return result;
}

}  // namespace matrix::media
