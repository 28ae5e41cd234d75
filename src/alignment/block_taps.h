#pragma once

#include "matrix/alignment/config.h"
#include "matrix/alignment/objective.h"

#include <cstdint>
#include <map>
#include <vector>

namespace matrix::alignment {

/// Whether decoder heads see log probabilities (else the taps give what `readout` says).
enum class ProbabilityDomain { kLinear, kLog };

/// The taps of every supervised block. A block that serves both terms gives one tensor
/// [B, 3 N + 2 N, F, gh, gw]: the grounding maps of all interactions, then the propagation maps.
[[nodiscard]] std::map<std::int64_t, nn::Tap> make_taps(const AlignmentConfig& config,
                                                        const Supervision& supervision,
                                                        ProbabilityDomain domain,
                                                        at::Device device);

/// A term's maps within the tap outputs of its blocks, each [B, N, E, F, gh, gw] (views).
[[nodiscard]] std::vector<at::Tensor> grounding_maps(const AlignmentConfig& config,
                                                     const std::map<std::int64_t, at::Tensor>& taps,
                                                     std::int64_t interactions);
[[nodiscard]] std::vector<at::Tensor> propagation_maps(
    const AlignmentConfig& config, const std::map<std::int64_t, at::Tensor>& taps,
    std::int64_t interactions);

}  // namespace matrix::alignment
