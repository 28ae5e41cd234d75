#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

// Pictures [H, W, 3] uint8 put together.

namespace matrix::cli::pictures {

/// A dark bar with light text, as wide as the text; '\n' makes lines.
[[nodiscard]] at::Tensor text_line(const std::string& text, double scale);

/// Next to each other and below each other, white where one is smaller. A bar of text_line grows to
/// the width it stands in, so that it stays dark.
[[nodiscard]] at::Tensor beside(const std::vector<at::Tensor>& pictures);
[[nodiscard]] at::Tensor below(const std::vector<at::Tensor>& pictures);

/// `text` on a dark strip under the picture.
[[nodiscard]] at::Tensor with_text_below(const at::Tensor& picture, const std::string& text);

/// Frames [n, H, W, 3] and masks [n, H, W] at about `width_px`: small ones enlarged, large ones
/// made smaller.
[[nodiscard]] at::Tensor frames_at_width(const at::Tensor& frames, std::int64_t width_px);
[[nodiscard]] at::Tensor masks_at_width(const at::Tensor& masks, std::int64_t width_px);

}  // namespace matrix::cli::pictures
