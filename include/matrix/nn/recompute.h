#pragma once

#include "matrix/kernels/attention.h"
#include "matrix/kernels/linear.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace matrix::nn {

class ActivationOffload;

/// What a transformer block keeps from its forward for its backward, each with what those before it
/// keep. Gradients have the same bits whichever it is.
enum class Keep {
    kInput,      ///< its input: backward runs all again but the feed-forward's second product
    kOffloaded,  ///< attention's output and log-sum-exp: attention runs once. The output and the
                 ///< block's input are in the host's memory from the forward to the backward
    kAttention,  ///< the same, all of it on the device
    kRows,       ///< q, k, v before their norms and the rows between the sublayers
    kProducts,   ///< the input of GELU and low-rank products: no product runs twice, only norms,
                 ///< rotation and GELU
    kGraph,      ///< whatever autograd saves; nothing runs twice
};

/// What a block carries from its forward to the run that backward repeats. Values that backward is
/// known not to read stand there as shapes alone.
struct RecomputeMemo {
    Keep keep = Keep::kGraph;
    bool recomputing = false;  ///< true while backward runs the block again

    std::optional<at::Tensor> modulation_1, modulation_2;  ///< of the two norms, which is small
    std::optional<kernels::LinearResult> projections;      ///< q, k, v
    std::optional<kernels::AttentionResult> attention;
    std::optional<kernels::LinearResult> attention_out;  ///< its low-rank product
    std::optional<at::Tensor> middle;                    ///< after the attention's residual
    std::optional<at::Tensor> hidden;                    ///< GELU's input

    /// Whether this run fills what `level` adds.
    [[nodiscard]] bool fills(Keep level) const {
        return !recomputing && keep != Keep::kGraph && keep >= level;
    }
    /// In the second run, a shape in place of a result like `like` whose values nothing reads.
    [[nodiscard]] std::optional<at::Tensor> unread(const at::Tensor& like) const {
        return recomputing ? std::optional(kernels::shape_only(like.sizes(), like.options()))
                           : std::nullopt;
    }
    /// A value that is always kept: made in the first run, taken in the second.
    template <class Make>
    [[nodiscard]] at::Tensor once(std::optional<at::Tensor>& slot, const Make& make) {
        if (std::optional<at::Tensor> kept = take(slot)) {
            return *std::move(kept);
        }
        at::Tensor made = make();
        if (fills(Keep::kInput)) {
            slot = made;
        }
        return made;
    }
    /// A kept value for the second run, which is then the only one to hold it.
    template <class T>
    [[nodiscard]] static std::optional<T> take(std::optional<T>& slot) {
        return std::exchange(slot, std::nullopt);
    }
};

/// A block: a pure function of its inputs and its parameters. It may be run twice.
using BlockFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs,
                                                            RecomputeMemo& memo)>;

/// Runs `block` as one autograd node that keeps its inputs and what the memo holds, and runs it
/// again in backward for everything else; with Keep::kGraph, simply runs it. Gradients have the
/// same bits as those of keeping everything. `parameters` are all tensors requiring a gradient that
/// the block reads besides its inputs: one that is not listed would get no gradient (builds other
/// than Release walk the graph and refuse). Outputs that nothing differentiates cost nothing.
/// `offload` is one for all blocks of a model, and needed for Keep::kOffloaded: what it has of a
/// block is on its way back while the next block is differentiated.
[[nodiscard]] std::vector<at::Tensor> recompute_in_backward(
    const BlockFunction& block, const std::vector<at::Tensor>& inputs,
    const std::vector<at::Tensor>& parameters, Keep keep,
    const std::shared_ptr<ActivationOffload>& offload = nullptr);

}  // namespace matrix::nn
