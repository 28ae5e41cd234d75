#include "matrix/nn/feed_forward.h"

#include <c10/core/GradMode.h>

#include "matrix/kernels/feed_forward.h"

namespace matrix::nn {

at::Tensor FeedForward::operator()(const at::Tensor& x, RecomputeMemo& memo) const {
    using Mode = kernels::FeedForwardMode;
    const auto run = [&](Mode mode, at::Tensor* hidden) {
        return kernels::feed_forward(x, in.frozen(), out.frozen(), mode, hidden);
    };
    if (memo.recomputing) {
        at::Tensor hidden = RecomputeMemo::take(memo.hidden).value_or(at::Tensor());
        return run(Mode::kGraphOnly, &hidden);
    }
    if (memo.fills(Keep::kProducts)) {
        return run(Mode::kKeepHidden, &memo.hidden.emplace());
    }
    const bool differentiated = c10::GradMode::is_enabled() && x.requires_grad();
    return run(differentiated ? Mode::kKeepHidden : Mode::kRecompute, nullptr);
}

std::int64_t FeedForward::chunk_rows(std::int64_t rows) {
    return kernels::feed_forward_chunk_rows(rows);
}

}  // namespace matrix::nn
