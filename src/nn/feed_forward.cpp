#include "matrix/nn/feed_forward.h"

#include "matrix/kernels/feed_forward.h"

namespace matrix::nn {

at::Tensor FeedForward::operator()(const at::Tensor& x, bool keep_hidden,
                                   const RecomputeMemo& memo) const {
    using Mode = kernels::FeedForwardMode;
    const Mode mode = keep_hidden        ? Mode::kKeepHidden
                      : memo.recomputing ? Mode::kGraphOnly
                                         : Mode::kRecompute;
    return kernels::feed_forward(x, in.weight, in.bias, out.weight, out.bias, mode);
}

}  // namespace matrix::nn
