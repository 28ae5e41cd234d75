#include "cli/pictures/floors.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "matrix/alignment/losses.h"
#include "matrix/alignment/scores.h"
#include "matrix/train/validation.h"

// F latent frames, C latent channels, h x w latents; N interactions of a clip.

namespace matrix::cli::pictures {
namespace {

using alignment::AlignmentConfig;
using alignment::MeanScore;

constexpr std::int64_t kTimesteps = 32;

/// Sums over velocities, by latent channel.
struct VelocitySums {
    at::Tensor sum, squares;  // [C] float64
    double count = 0;         // values of one channel

    void add(const at::Tensor& velocity) {  // [B, F, C, h, w]
        const at::Tensor s = velocity.sum({0, 1, 3, 4}, false, at::kDouble);
        const at::Tensor q = velocity.square().sum({0, 1, 3, 4}, false, at::kDouble);
        sum = sum.defined() ? sum + s : s;
        squares = squares.defined() ? squares + q : q;
        count += static_cast<double>(velocity.numel() / velocity.size(2));
    }
    [[nodiscard]] double variance() const {
        return (squares / count - (sum / count).square()).mean().item<double>();
    }
};

bool has_any(const at::Tensor& mask) {
    return mask.any().item<bool>();
}

/// Mean over the interactions with a counted entity of their entities' floors, as
/// alignment/objective.h has it.
class TermFloor {
public:
    void add_interaction(const std::vector<double>& entities) {
        for (const double floor : entities) {
            sum_ += floor;
        }
        interactions_ += entities.empty() ? 0 : 1;
    }
    [[nodiscard]] double value() const { return interactions_ == 0 ? 0.0 : sum_ / interactions_; }

private:
    double sum_ = 0;
    double interactions_ = 0;
};

struct ClipFloors {
    double sga = 0, spa = 0;
};

ClipFloors clip_floors(const alignment::Supervision& supervision, const AlignmentConfig& config) {
    TermFloor sga, spa;
    for (std::int64_t n = 0; n < supervision.masks.size(1); ++n) {
        const at::Tensor tracks = supervision.masks[0][n];  // [2, T, H, W]
        const std::vector<at::Tensor> targets = {tracks[0], tracks[1],
                                                 tracks[0].bitwise_or(tracks[1])};
        std::vector<double> words, cells;
        for (std::size_t e = 0; e < targets.size(); ++e) {
            const auto index = static_cast<std::int64_t>(e);
            const auto positives = targets[e].ne(0).sum().item<std::int64_t>();
            const double floor = constant_mask_loss(positives, targets[e].numel(), config);
            if (positives > 0 && has_any(supervision.token_mask[0][n][index])) {
                words.push_back(floor);
            }
            if (e < 2 && has_any(supervision.query_mask[0][n][index])) {
                cells.push_back(floor);
            }
        }
        sga.add_interaction(words);
        spa.add_interaction(cells);
    }
    return {sga.value(), spa.value()};
}

double loss_at(double logit, double positives, double pixels, const AlignmentConfig& config) {
    const double p = 1.0 / (1.0 + std::exp(-logit));
    const double negatives = pixels - positives;
    const double weight = !config.positive_class_weight ? 1.0
                          : positives == 0
                              ? alignment::kMaxPositiveWeight
                              : std::min(negatives / positives, alignment::kMaxPositiveWeight);
    const double bce = -(weight * positives * std::log(p) + negatives * std::log1p(-p)) / pixels;
    const double dice = 1.0 - (2.0 * p * positives + 1.0) / (p * pixels + positives + 1.0);
    const double l2 = (positives * (1.0 - p) * (1.0 - p) + negatives * p * p) / pixels;
    return config.bce * bce + config.dice * dice + config.l2 * l2;
}

}  // namespace

double constant_mask_loss(std::int64_t positives, std::int64_t pixels,
                          const AlignmentConfig& config) {
    // The sum of the three is not convex in the logit: a scan, fine enough that the curve shows no
    // corner.
    double best = std::numeric_limits<double>::infinity();
    for (int i = -1200; i <= 1200; ++i) {
        best = std::min(best, loss_at(0.01 * i, static_cast<double>(positives),
                                      static_cast<double>(pixels), config));
    }
    return best;
}

Floors measure_floors(const train::RunParts& parts, const AlignmentConfig& config) {
    const at::NoGradGuard no_grad;
    VelocitySums velocities;
    MeanScore sga, spa;
    for (const std::int64_t row : train::validation_rows(parts.samples.size())) {
        const train::Batch batch = train::validation_batch(parts.samples, row, parts.rules, 0);
        for (std::int64_t i = 0; i < kTimesteps; ++i) {
            const std::int64_t timestep =
                (2 * i + 1) * parts.rules.num_timesteps / (2 * kTimesteps);
            velocities.add(parts.schedule.velocity(batch.latents, batch.noise,
                                                   at::full_like(batch.timestep, timestep)));
        }
        const ClipFloors clip = clip_floors(batch.supervision, config);
        sga.add(clip.sga);
        spa.add(clip.spa);
    }
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {velocities.variance(), config.sga ? sga.value() : nan, config.spa ? spa.value() : nan};
}

}  // namespace matrix::cli::pictures
