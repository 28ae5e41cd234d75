#pragma once

#include "cli/pictures/floors.h"
#include "cli/pictures/history.h"
#include "matrix/media/draw.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace matrix::cli::pictures {

/// The plots of a run: losses each with its floor, and attention scores of training and held-out
/// clips with their chance lines, of the words (v2t) or the tracks (v2v). Terms that are off, and
/// scores of a run without validation, have none.
/// `samples_per_step` tells what share of a step's samples a dropout took out of an alignment term:
/// its loss is shown over the others.
[[nodiscard]] std::vector<media::Plot> loss_plots(const History& history, const Floors& floors,
                                                  std::int64_t samples_per_step);
[[nodiscard]] std::vector<media::Plot> word_plots(const History& history);
[[nodiscard]] std::vector<media::Plot> track_plots(const History& history);

/// All of them in one picture, [H, W, 3] uint8, a row each.
[[nodiscard]] at::Tensor draw_curves(const History& history, const Floors& floors,
                                     std::int64_t samples_per_step, const std::string& title);

}  // namespace matrix::cli::pictures
