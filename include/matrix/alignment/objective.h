#pragma once

#include "matrix/alignment/config.h"
#include "matrix/nn/tap.h"
#include "matrix/nn/token_layout.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace matrix::alignment {

/// What a batch says about its interactions; rows of zeros pad samples with fewer than N. All
/// uint8, on any device.
struct Supervision {
    at::Tensor token_mask;  ///< [B, N, 3, L] in the order subject, object, verb
    at::Tensor query_mask;  ///< [B, N, 2, gh, gw] first-frame cells of subject and object
    at::Tensor masks;       ///< [B, N, 2, T, H, W] mask tracks of subject and object
};

/// One term of one evaluation.
struct TermResult {
    std::string name;     ///< "sga", "spa": what the step's record calls it
    double weight = 0.0;  ///< of the loss in the total; 0 when the term is off
    at::Tensor loss;  ///< [] float32, before the term's weight; 0 when nothing is counted or the
                      ///< term is off
    at::Tensor map;   ///< [B, N, E, F, gh, gw] float32 mean over the term's blocks, detached;
                      ///< undefined when off
    std::int64_t counted = 0;  ///< entities that contributed
    std::int64_t skipped = 0;  ///< entities of real interactions that were absent
};

/// The term of that name; a name that the objective has not is a programmer's error.
[[nodiscard]] const TermResult& term_of(const std::vector<TermResult>& terms,
                                        std::string_view name);

/// What an objective hands to the step: scalars for the log, and the gradient of the weighted sum
/// of its terms with respect to each tap output, to seed the backward of the backbone.
struct Evaluation {
    std::vector<TermResult> terms;           ///< the same names in the same order at every step
    std::vector<at::Tensor> roots;           ///< tap outputs that carry a gradient
    std::vector<at::Tensor> root_gradients;  ///< same shapes
};

/// What a step adds to the denoising loss. Runs differ by this object and the config, never by a
/// second training step.
class Objective {
public:
    virtual ~Objective() = default;
    /// The taps to hang into the backbone for this batch, by block.
    [[nodiscard]] virtual std::map<std::int64_t, nn::Tap> taps(
        const Supervision& supervision) const = 0;
    /// Heads and losses over the taps' outputs, entity by entity, with `autograd::grad` inside: the
    /// heads' own gradients are added to their parameters' `.grad` times `scale`, and the roots'
    /// gradients carry the factor too. `scale` is what the caller multiplies the loss with (1 /
    /// accumulation). Without `with_gradients` nothing is differentiated.
    [[nodiscard]] virtual Evaluation evaluate(const std::map<std::int64_t, at::Tensor>& tap_outputs,
                                              const Supervision& supervision,
                                              const nn::TokenLayout& layout, double scale,
                                              bool with_gradients) = 0;
    /// Trainable tensors by checkpoint name ("heads.grounding.*", "heads.propagation.*"), float32.
    [[nodiscard]] virtual std::map<std::string, at::Tensor> parameters() const = 0;
};

/// How the losses see a map: through the trained heads, or as it is, each cell repeated over its
/// pixels and frames
/// (`nearest`, without parameters: tests and probes).
enum class HeadMode { kDecoder, kNearest };

/// SGA + SPA of the paper (section 5), terms "sga" and "spa". `seed` initialises the heads.
[[nodiscard]] std::unique_ptr<Objective> make_matrix_objective(const AlignmentConfig& config,
                                                               std::uint64_t seed,
                                                               at::Device device,
                                                               HeadMode mode = HeadMode::kDecoder);

}  // namespace matrix::alignment
