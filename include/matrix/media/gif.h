#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace matrix::media {

/// An animated GIF that repeats for ever, of frames [T, H, W, 3] uint8 RGB, in 256 colours chosen
/// for the whole clip. Delays are whole hundredths of a second, so that the rate is met on average
/// alone. Written under a temporary name, then renamed; RunError naming the file.
void write_gif(const std::filesystem::path& path, const at::Tensor& frames,
               double frames_per_second);

}  // namespace matrix::media
