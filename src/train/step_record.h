#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "matrix/train/batch.h"
#include "matrix/train/ranks.h"
#include "matrix/train/step.h"

namespace matrix::train {

/// What a step counts on the host. After agree(): sums over the replicas.
struct StepFacts {
    std::int64_t images_dropped = 0;
    std::int64_t captions_dropped = 0;
    std::int64_t id_maps_dropped = 0;
    std::vector<std::int64_t> counted, skipped;  ///< by term
    double data_seconds = 0.0;                   ///< mean over the ranks
    std::optional<int> signal;                   ///< one that any rank was sent
};

[[nodiscard]] StepFacts facts_of(const StepResult& result, const std::vector<BatchFacts>& batches,
                                 double data_seconds);

/// One small exchange, after which every rank knows the same of a step, a signal to one of them
/// included.
void agree(StepFacts& facts, const Ranks& ranks, const std::string& name);

/// The step's record for metrics.jsonl, the same on every rank but for `step_seconds`; reading the
/// tensors is where the host waits for the device.
[[nodiscard]] nlohmann::json record_of(std::int64_t step, const StepResult& result,
                                       const StepFacts& facts, double learning_rate);

/// Which quantity of a step is not finite, or nothing: a part before the sum that it spoils.
[[nodiscard]] std::optional<std::string> non_finite_term(const nlohmann::json& record);

/// Clips of this rank's micro-batches whose losses are not finite, or of all of them where `all`,
/// each with sample number and timestep.
[[nodiscard]] std::string name_clips(const StepResult& result,
                                     const std::vector<BatchFacts>& batches, bool all);

/// "loss 0.9312  denoise 0.8021  sga 0.2".
[[nodiscard]] std::string progress_detail(const nlohmann::json& record);

}  // namespace matrix::train
