#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <array>

#include "cli/probe/parts.h"
#include "matrix/alignment/heads.h"
#include "matrix/alignment/losses.h"
#include "matrix/alignment/readout.h"
#include "matrix/core/error.h"

namespace matrix::cli::probe {
namespace {

using alignment::ReadoutOptions;
using Direction = ReadoutOptions::Direction;

// Far above any video. A head's memory grows with the square of a side.
constexpr std::int64_t kMaxHeadFrames = 1 << 14;
constexpr std::int64_t kMaxHeadSide = 2048;
// Far above any clip's. Without text rows a mask of any number of entities takes no bytes.
constexpr std::int64_t kMaxEntities = 1 << 16;

Direction direction_of(const std::string& part) {
    return part == "readout.v2t"   ? Direction::kV2t
           : part == "readout.t2v" ? Direction::kT2v
                                   : Direction::kV2v;
}

/// The layout of S joint rows over `grid` [3]; every size is held against S before it is
/// multiplied.
nn::TokenLayout read_layout(const Inputs& in, std::int64_t rows) {
    const at::Tensor grid = in.integers("grid", {3}, at::kLong).cpu().contiguous();
    std::int64_t video = 1;
    std::array<std::int64_t, 3> sizes{};
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        sizes[i] = grid.const_data_ptr<std::int64_t>()[i];
        if (sizes[i] < 1 || sizes[i] > rows / video) {
            in.fail("grid", "its cells must be at least one each way and at most the " +
                                std::to_string(rows) + " rows of q");
        }
        video *= sizes[i];
    }
    return {nn::TokenLayout::Attention::kJoint, rows - video, sizes[0], sizes[1], sizes[2]};
}

at::Tensor read_mask(const Inputs& in, Direction direction, std::int64_t batch,
                     const nn::TokenLayout& layout) {
    const bool v2v = direction == Direction::kV2v;
    const char* name = v2v ? "query_mask" : "token_mask";
    const at::Tensor mask =
        v2v ? in.integers(name, {batch, -1, layout.grid_height, layout.grid_width}, at::kByte)
            : in.integers(name, {batch, -1, layout.text_tokens}, at::kByte);
    if (mask.size(1) > kMaxEntities) {
        in.fail(name, "has more than " + std::to_string(kMaxEntities) + " entities");
    }
    return mask;
}

}  // namespace

Result run_readout(const Request& request) {
    const Inputs in(request);
    ReadoutOptions options;
    options.direction = direction_of(request.part);
    options.value = request.readout == "logits" ? ReadoutOptions::Value::kLogits
                                                : ReadoutOptions::Value::kProbabilities;

    const at::Tensor q = leaf(in.floating("q", {-1, -1, -1, -1}), request);  // [B, heads, S, d]
    const at::Tensor k = leaf(in.floating("k", q.sizes()), request);
    if (q.size(1) < 1 || q.size(3) < 1) {
        in.fail("q", "at least one head and one channel are needed");
    }
    const nn::TokenLayout layout = read_layout(in, q.size(2));
    const at::Tensor mask = read_mask(in, options.direction, q.size(0), layout);
    at::Tensor cotangent;
    if (request.grad) {
        cotangent = in.floating("cotangent", {q.size(0), mask.size(1), layout.frames,
                                              layout.grid_height, layout.grid_width});
    }

    const at::AutoGradMode grad_mode(request.grad);
    const at::Tensor map =
        alignment::AttentionReadout(options, mask, request.device()).read(q, k, {}, layout);
    Result result;
    result.outputs["map"] = map.detach();  // [B, E, F, gh, gw]
    if (request.grad) {
        const std::vector<at::Tensor> grads = gradients(map, cotangent, {q, k});
        result.outputs["grad.q"] = grads[0];
        result.outputs["grad.k"] = grads[1];
    }
    return result;
}

Result run_loss(const Request& request) {
    const alignment::AlignmentConfig config = alignment_config(
        request,
        {"alignment.bce", "alignment.dice", "alignment.l2", "alignment.positive_class_weight"});
    const Inputs in(request);
    const at::Tensor logits =
        leaf(in.floating("logits", {-1, -1, -1, -1}), request);  // [E, T, H, W]
    if (logits.size(1) < 1 || logits.size(2) < 1 || logits.size(3) < 1) {
        in.fail("logits", "an entity has no pixels");
    }
    const at::Tensor target = in.floating("target", logits.sizes(), at::kFloat);

    const at::AutoGradMode grad_mode(request.grad);
    const alignment::LossTerms terms = alignment::mask_loss(logits.to(at::kFloat), target, config);
    Result result;
    result.outputs = {{"bce", terms.bce.detach()},
                      {"dice", terms.dice.detach()},
                      {"l2", terms.l2.detach()},
                      {"total", terms.total.detach()}};
    if (request.grad) {
        result.outputs["grad.logits"] =
            gradients(terms.total, at::ones_like(terms.total), {logits})[0];
    }
    return result;
}

Result run_head(const Request& request) {
    const alignment::AlignmentConfig config = alignment_config(request, {"alignment.head"});
    const Inputs in(request);
    const at::Tensor map =
        leaf(in.floating("map", {-1, -1, -1, -1, -1}), request);  // [B, E, F, gh, gw]
    const std::int64_t batch = map.size(0), entities = map.size(1);
    for (std::int64_t dim = 2; dim < 5; ++dim) {
        if (map.size(dim) < 1 || map.size(dim) > (dim == 2 ? kMaxHeadFrames : kMaxHeadSide)) {
            in.fail("map", "must have 1.." + std::to_string(kMaxHeadFrames) + " frames and 1.." +
                               std::to_string(kMaxHeadSide) + " cells each way");
        }
    }
    const std::int64_t frames = 4 * (map.size(2) - 1) + 1, height = 16 * map.size(3),
                       width = 16 * map.size(4);
    at::Tensor cotangent;
    if (request.grad) {
        cotangent = in.floating("cotangent", {batch, entities, frames, height, width}, at::kFloat);
    }

    const at::AutoGradMode grad_mode(request.grad);
    const auto head =
        alignment::make_head(config.head, "heads." + request.head, request.seed, request.device());
    const at::Tensor logits = head->decode(map.to(at::kFloat).flatten(0, 1))
                                  .view({batch, entities, frames, height, width});
    Result result;
    result.outputs["logits"] = logits.detach().to(request.dtype());
    if (request.grad) {
        result.outputs["grad.map"] = gradients(logits, cotangent, {map})[0];
    }
    return result;
}

}  // namespace matrix::cli::probe
