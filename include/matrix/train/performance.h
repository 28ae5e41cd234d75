#pragma once

#include "matrix/models/backbone.h"
#include "matrix/train/ranks.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace matrix::train {

/// What steps cost on the ranks of a run.
class Performance {
public:
    /// `layout` of one clip; `global_batch` clips a step.
    Performance(const models::Backbone& backbone, const nn::TokenLayout& layout,
                std::int64_t global_batch, const Ranks& ranks);

    /// One object of performance.jsonl: `step`, `step_seconds`, `data_seconds`,
    /// `tokens_per_second` (rows of the joint sequence, over all ranks), `memory_gib` (the most
    /// that this rank's allocator held at once on a GPU; the process's peak on a CPU) and, for
    /// bfloat16 on a GPU of a known kind, `mfu`: the share of the ranks' peak that forward and
    /// backward under a frozen base use, recomputation not counted.
    [[nodiscard]] nlohmann::json of_step(std::int64_t step, double step_seconds,
                                         double data_seconds) const;

private:
    double tokens_ = 0.0;
    double flops_ = 0.0;
    std::optional<double> peak_flops_;  ///< a second, all ranks
    at::Device device_;
};

/// Dense bfloat16 operations a second of a GPU, by the name its driver gives, from the makers' data
/// sheets; nothing for one that is not listed.
[[nodiscard]] std::optional<double> peak_bfloat16_flops(const std::string& gpu);

}  // namespace matrix::train
