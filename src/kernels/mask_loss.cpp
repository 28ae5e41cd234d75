#include "matrix/kernels/mask_loss.h"

#include "kernels/pass/mask_loss.h"
#include "kernels/pass/run.h"
#include "kernels/pass/tensors.h"
#include "kernels/self_check.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <array>

// E entities, n pixels of an entity, c pixels of a chunk.

namespace matrix::kernels {
namespace {

// Pixels of all entities together that one chunk holds: 16 MiB per float32 temporary.
constexpr std::int64_t kChunkElements = 4 << 20;
constexpr std::int64_t kNumSums = 6;
static_assert(kCellPixels == pass::kCellPixels);

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

void check(const at::Tensor& x, const at::Tensor& y) {
    TORCH_CHECK(x.dim() == 2 && x.sizes() == y.sizes(), "mask loss wants equal [E, n], got ",
                x.sizes(), " and ", y.sizes());
}

MaskSums named(const std::array<at::Tensor, kNumSums>& s) {
    return {s[0], s[1], s[2], s[3], s[4], s[5]};
}

/// A part that there is: both have one dtype and device.
const at::Tensor& any_part(const CellLogits& logits) {
    return logits.rows.defined() ? logits.rows : logits.cells;
}

/// E, K, gh, W and frames of a step.
struct CellSizes {
    std::int64_t entities, steps, height, width, frames;

    static CellSizes of(const CellLogits& logits) {
        const at::Tensor &rows = logits.rows, &cells = logits.cells;
        TORCH_CHECK(rows.defined() || cells.defined(), "mask logits without any part");
        const at::Tensor& some = any_part(logits);
        TORCH_CHECK(some.dim() == (rows.defined() ? 4 : 5), "mask logits of sizes ", some.sizes());
        const CellSizes s = {some.size(0), some.size(1), some.size(2),
                             rows.defined() ? rows.size(3) : kCellPixels * cells.size(3),
                             logits.frames};
        TORCH_CHECK(s.width % kCellPixels == 0 && s.frames > 0 && s.steps > 0,
                    "mask logits of width ", s.width, " in ", s.steps, " steps of ", s.frames);
        TORCH_CHECK(
            !rows.defined() || !cells.defined() || rows.options().type_equal(cells.options()),
            "rows and cells of mask logits differ in dtype or device");
        TORCH_CHECK(!cells.defined() ||
                        cells.sizes() ==
                            at::IntArrayRef({s.entities, s.steps, s.height, s.width / kCellPixels,
                                             s.frames * kCellPixels * kCellPixels}),
                    "cells ", cells.sizes(), " for rows ", some.sizes());
        return s;
    }
    [[nodiscard]] std::int64_t pass_rows() const { return entities * steps * height; }
    [[nodiscard]] std::int64_t row_elements() const { return kCellPixels * width * frames; }
    [[nodiscard]] std::vector<std::int64_t> pixels() const {
        return {entities, frames * (steps - 1) + 1, kCellPixels * height, width};
    }
};

/// What a pass reads, alive as long as this is.
struct CellInputs {
    CellSizes sizes;
    at::Tensor rows, cells, y;

    CellInputs(const CellLogits& logits, const at::Tensor& masks)
        : sizes(CellSizes::of(logits)), rows(logits.rows), cells(logits.cells) {
        rows = rows.defined() ? rows.contiguous() : rows;
        cells = cells.defined() ? cells.contiguous() : cells;
        // Bytes as they are, also of a bool; a copy of anything else.
        y = (masks.scalar_type() == at::kBool ? masks.view(at::kByte) : masks.to(at::kByte))
                .contiguous();
    }
    [[nodiscard]] const at::Tensor& any() const { return rows.defined() ? rows : cells; }
    [[nodiscard]] pass::MaskCells pointers() const {
        const auto floats = [](const at::Tensor& part) {
            return part.defined() ? pass::data<const float>(part) : nullptr;
        };
        return {.rows = floats(rows),
                .cells = floats(cells),
                .y = pass::data<const std::uint8_t>(y),
                .steps = sizes.steps,
                .height = sizes.height,
                .width = sizes.width,
                .frames = sizes.frames};
    }
};

MaskSums sums_in_one_pass(const CellLogits& logits, const at::Tensor& y) {
    const CellInputs in(logits, y);
    const at::Tensor sums =
        at::empty({in.sizes.entities, in.sizes.steps * in.sizes.height, kNumSums},
                  in.any().options().dtype(at::kDouble));
    pass::run_rows(in.any(), pass::MaskSums{in.pointers(), pass::data<double>(sums)},
                   in.sizes.pass_rows(), in.sizes.row_elements());
    const at::Tensor total = sums.sum(1);
    std::array<at::Tensor, kNumSums> all;
    for (std::size_t i = 0; i < kNumSums; ++i) {
        all[i] = total.select(1, static_cast<std::int64_t>(i));
    }
    return named(all);
}

/// The parts that a pass leaves, of each row of cells for the one above, itself and the one below.
at::Tensor sum_of_parts(const at::Tensor& parts) {
    const std::int64_t below = parts.size(2) - 1;
    at::Tensor sum = parts.select(3, 1).clone();
    sum.narrow(2, 0, below).add_(parts.select(3, 0).narrow(2, 1, below));
    sum.narrow(2, 1, below).add_(parts.select(3, 2).narrow(2, 0, below));
    return sum;
}

CellLogits gradient_in_one_pass(const CellLogits& logits, const at::Tensor& y,
                                const MaskSlopes& slopes) {
    const CellInputs in(logits, y);
    const CellSizes& s = in.sizes;
    const at::Tensor table =
        at::stack({slopes.bce, slopes.extra_bce, slopes.square, slopes.everywhere, slopes.inside},
                  1)
            .to(at::kFloat)
            .contiguous();  // [E, 5], rows of pass::MaskSlopes
    static_assert(sizeof(pass::MaskSlopes) == 5 * sizeof(float));
    TORCH_CHECK(table.size(0) == s.entities && table.device() == in.any().device(),
                "mask slopes of ", table.size(0), " entities on ", table.device());
    CellLogits grad{{}, {}, logits.frames};
    at::Tensor parts;
    if (in.rows.defined()) {
        parts = at::empty({s.entities, s.steps, s.height, 3, s.width}, in.rows.options());
    }
    if (in.cells.defined()) {
        grad.cells = at::empty_like(in.cells);
    }
    pass::run_rows(
        in.any(),
        pass::MaskGradient{.in = in.pointers(),
                           .slopes = pass::data<const pass::MaskSlopes>(table),
                           .rows = parts.defined() ? pass::data<float>(parts) : nullptr,
                           .cells = grad.cells.defined() ? pass::data<float>(grad.cells) : nullptr},
        s.pass_rows(), s.row_elements());
    if (parts.defined()) {
        grad.rows = sum_of_parts(parts);
    }
    return grad;
}

/// Through every pixel's logit.
MaskSums sums_by_pixels(const CellLogits& logits, const at::Tensor& y) {
    return mask_sums(pixel_logits(logits).flatten(1), y.flatten(1));
}

CellLogits gradient_by_pixels(const CellLogits& logits, const at::Tensor& y,
                              const MaskSlopes& slopes) {
    const at::AutoGradMode grad_mode(true);
    CellLogits leaves = logits;
    std::vector<at::Tensor> parts;
    for (at::Tensor* part : {&leaves.rows, &leaves.cells}) {
        if (part->defined()) {
            *part = part->detach().set_requires_grad(true);
            parts.push_back(*part);
        }
    }
    const at::Tensor x = pixel_logits(leaves);
    const at::Tensor grad = mask_gradient(x.detach().flatten(1), y.flatten(1), slopes);
    const std::vector<at::Tensor> grads = torch::autograd::grad({x}, parts, {grad.view_as(x)});
    return {logits.rows.defined() ? grads.front() : at::Tensor(),
            logits.cells.defined() ? grads.back() : at::Tensor(), logits.frames};
}

Comparison compare_mask_passes(const at::TensorOptions& options) {
    const std::int64_t width = 20 * kCellPixels;
    Comparison comparison;
    const at::Tensor rows = check_values({2, 3, 4, width}, options, 1) * 4,
                     cells = check_values({2, 3, 4, 20, 4 * kCellPixels * kCellPixels}, options, 2);
    for (const CellLogits& logits :
         {CellLogits{rows, {}, 4}, CellLogits{rows, cells, 4},
          CellLogits{{}, cells.narrow(4, 0, 2 * kCellPixels * kCellPixels), 2}}) {
        const at::Tensor y = check_values(CellSizes::of(logits).pixels(), options, 3).gt(0),
                         slope = check_values({5, 2}, options.dtype(at::kDouble), 4);
        const MaskSlopes slopes = {slope[0], slope[1], slope[2], slope[3], slope[4]};
        const auto add = [](std::vector<at::Tensor>& to, const MaskSums& s, const CellLogits& g) {
            to.insert(to.end(),
                      {s.positives, s.positive_bce, s.all_bce, s.overlap, s.foreground, s.squares});
            for (const at::Tensor& part : {g.rows, g.cells}) {
                if (part.defined()) {
                    to.push_back(part);
                }
            }
        };
        add(comparison.by_kernel, sums_in_one_pass(logits, y),
            gradient_in_one_pass(logits, y, slopes));
        add(comparison.wanted, sums_by_pixels(logits, y), gradient_by_pixels(logits, y, slopes));
    }
    return comparison;
}

bool in_one_pass(const CellLogits& logits) {
    const at::Tensor& some = any_part(logits);
    return some.scalar_type() == at::kFloat && has_passes(some, "mask losses", compare_mask_passes);
}

void check(const CellLogits& logits, const at::Tensor& y) {
    const std::vector<std::int64_t> pixels = CellSizes::of(logits).pixels();
    const at::Tensor& some = any_part(logits);
    TORCH_CHECK(y.sizes() == at::IntArrayRef(pixels) && y.device() == some.device(),
                "mask loss wants masks [E, T, H, W] ", at::IntArrayRef(pixels), " on ",
                some.device(), ", got ", y.sizes(), " on ", y.device());
}

}  // namespace

MaskSums mask_sums(const at::Tensor& x, const at::Tensor& y) {
    check(x, y);
    return named(sums_in_chunks(x, y));
}

at::Tensor mask_gradient(const at::Tensor& x, const at::Tensor& y, const MaskSlopes& slopes) {
    check(x, y);
    return gradient_in_chunks(x, y, slopes);
}

at::Tensor pixel_logits(const CellLogits& logits) {
    const CellSizes s = CellSizes::of(logits);
    at::Tensor x;  // [E, K, frames, H, W]
    if (logits.cells.defined()) {
        x = logits.cells
                .view({s.entities, s.steps, s.height, s.width / kCellPixels, s.frames, kCellPixels,
                       kCellPixels})
                .permute({0, 1, 4, 2, 5, 3, 6})
                .reshape({s.entities, s.steps, s.frames, kCellPixels * s.height, s.width});
    }
    if (logits.rows.defined()) {
        const at::Tensor shared =
            at::upsample_bilinear2d(logits.rows, {kCellPixels * s.height, s.width},
                                    /*align_corners=*/false)
                .unsqueeze(2);
        x = x.defined() ? x + shared : shared.expand({-1, -1, s.frames, -1, -1});
    }
    return x.flatten(1, 2).narrow(1, s.frames - 1, s.pixels()[1]);
}

MaskSums mask_sums(const CellLogits& logits, const at::Tensor& y) {
    check(logits, y);
    return in_one_pass(logits) ? sums_in_one_pass(logits, y) : sums_by_pixels(logits, y);
}

CellLogits mask_gradient(const CellLogits& logits, const at::Tensor& y, const MaskSlopes& slopes) {
    check(logits, y);
    return in_one_pass(logits) ? gradient_in_one_pass(logits, y, slopes)
                               : gradient_by_pixels(logits, y, slopes);
}

}  // namespace matrix::kernels
