#include "matrix/kernels/mask_loss.h"

#include "kernels/pass/mask_loss.h"
#include "kernels/pass/run.h"
#include "kernels/pass/tensors.h"
#include "kernels/self_check.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

// E entities, n pixels of an entity, c pixels of a chunk.

namespace matrix::kernels {
namespace {

// Pixels of all entities together that one chunk holds: 16 MiB per float32 temporary.
constexpr std::int64_t kChunkElements = 4 << 20;
constexpr std::size_t kNumSums = 6;

struct Chunk {
    std::int64_t begin;
    at::Tensor x, y;  // [E, c], y in the dtype of x
};

template <class Visit>
void for_each_chunk(const at::Tensor& x, const at::Tensor& y, Visit visit) {
    // Without entities all pixels are one chunk, however many a shape claims.
    const std::int64_t step =
        x.size(0) == 0 ? x.size(1) : std::max<std::int64_t>(1, kChunkElements / x.size(0));
    for (std::int64_t begin = 0; begin < x.size(1); begin += step) {
        const std::int64_t count = std::min(step, x.size(1) - begin);
        visit(
            Chunk{begin, x.narrow(1, begin, count), y.narrow(1, begin, count).to(x.scalar_type())});
    }
}

std::array<at::Tensor, kNumSums> sums_in_chunks(const at::Tensor& x, const at::Tensor& y) {
    std::array<at::Tensor, kNumSums> sums;
    sums.fill(at::zeros({x.size(0)}, x.options().dtype(at::kDouble)));
    for_each_chunk(x, y, [&](const Chunk& c) {
        const at::Tensor s = at::sigmoid(c.x);
        const at::Tensor bce = at::softplus(c.x * (1 - 2 * c.y));
        std::size_t next = 0;
        for (const at::Tensor& values : {c.y, c.y * bce, bce, s * c.y, s, (s - c.y).square_()}) {
            at::Tensor& sum = sums[next++];
            sum = sum + values.sum(1, /*keepdim=*/false, at::kDouble);
        }
    });
    return sums;
}

std::array<at::Tensor, kNumSums> sums_in_one_pass(const at::Tensor& x, const at::Tensor& y) {
    const std::int64_t blocks = pass::blocks_of(x.size(1));
    const at::Tensor sums = at::empty({x.size(0), blocks, static_cast<std::int64_t>(kNumSums)},
                                      x.options().dtype(at::kDouble));
    pass::run_rows(x,
                   pass::MaskSums{.x = pass::data<const float>(x),
                                  .y = pass::data<const std::uint8_t>(y),
                                  .sums = pass::data<double>(sums),
                                  .pixels = x.size(1)},
                   x.size(0) * blocks, pass::kBlockPixels);
    const at::Tensor total = sums.sum(1);
    std::array<at::Tensor, kNumSums> out;
    for (std::size_t i = 0; i < kNumSums; ++i) {
        out[i] = total.select(1, static_cast<std::int64_t>(i));
    }
    return out;
}

at::Tensor gradient_in_chunks(const at::Tensor& x, const at::Tensor& y, const MaskSlopes& slopes) {
    const auto column = [&](const at::Tensor& value) {
        return value.unsqueeze(1).to(x.scalar_type());  // [E, 1]
    };
    const at::Tensor bce = column(slopes.bce), extra_bce = column(slopes.extra_bce),
                     square = column(slopes.square), everywhere = column(slopes.everywhere),
                     inside = column(slopes.inside);
    at::Tensor grad = at::empty_like(x);
    for_each_chunk(x, y, [&](const Chunk& c) {
        const at::Tensor s = at::sigmoid(c.x);
        const at::Tensor miss = s - c.y;
        at::Tensor by_s = (miss * square).addcmul_(c.y, inside).add_(everywhere);
        by_s.mul_(s).mul_(1 - s);
        const at::Tensor by_bce = (c.y * extra_bce).add_(bce);
        grad.narrow(1, c.begin, c.x.size(1)).copy_(by_s.addcmul_(miss, by_bce));
    });
    return grad;
}

at::Tensor gradient_in_one_pass(const at::Tensor& x, const at::Tensor& y,
                                const MaskSlopes& slopes) {
    const at::Tensor table =
        at::stack({slopes.bce, slopes.extra_bce, slopes.square, slopes.everywhere, slopes.inside},
                  1)
            .to(at::kFloat)
            .contiguous();  // [E, 5], rows of pass::MaskSlopes
    static_assert(sizeof(pass::MaskSlopes) == 5 * sizeof(float));
    at::Tensor grad = at::empty_like(x);
    pass::run_rows(x,
                   pass::MaskGradient{.x = pass::data<const float>(x),
                                      .y = pass::data<const std::uint8_t>(y),
                                      .slopes = pass::data<const pass::MaskSlopes>(table),
                                      .grad = pass::data<float>(grad),
                                      .pixels = x.size(1)},
                   x.size(0) * pass::blocks_of(x.size(1)), pass::kBlockPixels);
    return grad;
}

/// Bytes as they are, also of a bool; a copy of anything else.
at::Tensor as_bytes(const at::Tensor& y) {
    return (y.scalar_type() == at::kBool ? y.view(at::kByte) : y.to(at::kByte)).contiguous();
}

Comparison compare_mask_passes(const at::TensorOptions& options) {
    const at::Tensor x = check_values({2, pass::kBlockPixels + 1001}, options, 1) * 4,
                     y = check_values(x.sizes(), options, 2).gt(0),
                     slope = check_values({5, 2}, options.dtype(at::kDouble), 3);
    const auto sums = sums_in_one_pass(x, as_bytes(y)), wanted = sums_in_chunks(x, y);
    const MaskSlopes slopes = {slope[0], slope[1], slope[2], slope[3], slope[4]};
    Comparison comparison{{sums.begin(), sums.end()}, {wanted.begin(), wanted.end()}};
    comparison.by_kernel.push_back(gradient_in_one_pass(x, as_bytes(y), slopes));
    comparison.wanted.push_back(gradient_in_chunks(x, y, slopes));
    return comparison;
}

bool in_one_pass(const at::Tensor& x) {
    return x.scalar_type() == at::kFloat && has_passes(x, "mask losses", compare_mask_passes);
}

void check(const at::Tensor& x, const at::Tensor& y) {
    TORCH_CHECK(x.dim() == 2 && x.sizes() == y.sizes(), "mask loss wants equal [E, n], got ",
                x.sizes(), " and ", y.sizes());
}

}  // namespace

MaskSums mask_sums(const at::Tensor& x, const at::Tensor& y) {
    check(x, y);
    const auto s =
        in_one_pass(x) ? sums_in_one_pass(x.contiguous(), as_bytes(y)) : sums_in_chunks(x, y);
    return {s[0], s[1], s[2], s[3], s[4], s[5]};
}

at::Tensor mask_gradient(const at::Tensor& x, const at::Tensor& y, const MaskSlopes& slopes) {
    check(x, y);
    return in_one_pass(x) ? gradient_in_one_pass(x.contiguous(), as_bytes(y), slopes)
                          : gradient_in_chunks(x, y, slopes);
}

}  // namespace matrix::kernels
