#pragma once

#include "matrix/data_source/clip.h"
#include "matrix/data_source/manifest.h"

#include <ATen/core/Tensor.h>

namespace matrix::cli::check {

/// A picture [H, W, 3] uint8 to look at a row by: its prompt and roles, and six of the frames that
/// `plan` names with each ID's mask outlined in the ID map's colour and named. RunError where a
/// frame or a mask cannot be read.
[[nodiscard]] at::Tensor overlay_sheet(const data_source::Row& row,
                                       const data_source::ClipPlan& plan);

}  // namespace matrix::cli::check
