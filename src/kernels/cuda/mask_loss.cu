#include "kernels/pass/mask_loss.h"

#include "kernels/cuda/device.cuh"

// A block of threads a row of cells, a thread a column of pixels.

namespace matrix::kernels::cuda {
namespace {

constexpr int kSide = pass::kCellPixels;

/// Nothing is taken from 1, so that what is nearly right keeps its digits.
struct Pixel {
    float inside, outside;            ///< sigmoid(x), sigmoid(-x)
    float cost_inside, cost_outside;  ///< cross-entropy where y = 1, log(1 + exp(-x)), and y = 0
};

__device__ __forceinline__ Pixel pixel(float x) {
    const bool negative = x < 0;
    const float e = expf(negative ? x : -x);
    const float larger = 1 / (1 + e), smaller = e * larger, both = log1pf(e);
    return {negative ? smaller : larger, negative ? larger : smaller, (negative ? -x : 0) + both,
            (negative ? 0 : x) + both};
}

/// A block's row of cells in one step of one entity.
struct CellRow {
    std::int64_t index, entity;
    int first_frame;         ///< of the step
    bool is_first, is_last;  ///< of the step's rows
    std::int64_t pixels;  ///< its first element of `y`, in frame 0 of the step, if that is a frame
    std::int64_t frame_pixels;

    __device__ __forceinline__ explicit CellRow(const pass::MaskCells& in) : index(blockIdx.x) {
        const std::int64_t of_entity = in.steps * in.height;
        entity = index / of_entity;
        const std::int64_t step = (index - entity * of_entity) / in.height;
        const std::int64_t row = index % in.height;
        first_frame = step == 0 ? static_cast<int>(in.frames) - 1 : 0;
        is_first = row == 0;
        is_last = row + 1 == in.height;
        frame_pixels = in.height * kSide * in.width;
        const std::int64_t frames = in.frames * (in.steps - 1) + 1;
        pixels = (entity * frames + in.frames * step - (in.frames - 1)) * frame_pixels +
                 row * kSide * in.width;
    }
};

/// How a row of pixels lies between the centres of its own cells and the next ones, which are above
/// for the upper half.
struct Between {
    bool is_above;
    float share;  ///< of the next cells

    __device__ __forceinline__ explicit Between(int pixel_row) {
        const float offset = (static_cast<float>(pixel_row) + 0.5F) / kSide - 0.5F;
        is_above = offset < 0;
        share = is_above ? -offset : offset;
    }
};

/// A pixel's first element of `cells`, in frame 0 of the step.
__device__ __forceinline__ std::int64_t cell_element(const pass::MaskCells& in, const CellRow& at,
                                                     int column, int pixel_row) {
    const std::int64_t cell = at.index * (in.width / kSide) + column / kSide;
    return cell * in.frames * kSide * kSide + pixel_row * kSide + column % kSide;
}

/// Calls visit(pixel_row, frame, x, positives, frames) for a column's pixels: those of one frame,
/// or of all frames where they share a logit.
template <class Visit>
__device__ __forceinline__ void for_pixels(const pass::MaskCells& in, const CellRow& at, int column,
                                           Visit visit) {
    float own = 0, above = 0, below = 0;
    if (in.rows != nullptr) {
        const float* rows = in.rows + at.index * in.width + column;
        own = *rows;
        above = at.is_first ? own : rows[-in.width];
        below = at.is_last ? own : rows[in.width];
    }
    for (int pixel_row = 0; pixel_row < kSide; ++pixel_row) {
        const Between between(pixel_row);
        const float x =
            (1 - between.share) * own + between.share * (between.is_above ? above : below);
        const std::int64_t y = at.pixels + pixel_row * in.width + column;
        const int frames = static_cast<int>(in.frames);
        if (in.cells == nullptr) {
            int positives = 0;
            for (int f = at.first_frame; f < frames; ++f) {
                positives += in.y[y + f * at.frame_pixels] != 0 ? 1 : 0;
            }
            visit(pixel_row, at.first_frame, x, static_cast<float>(positives),
                  static_cast<float>(frames - at.first_frame));
        } else {
            const float* cells = in.cells + cell_element(in, at, column, pixel_row);
            for (int f = at.first_frame; f < frames; ++f) {
                visit(pixel_row, f, x + cells[f * kSide * kSide],
                      in.y[y + f * at.frame_pixels] != 0 ? 1.0F : 0.0F, 1.0F);
            }
        }
    }
}

__global__ void sums(pass::MaskSums a) {
    const CellRow at(a.in);
    // A thread adds a few hundred values of at most `frames`, so that float32 is enough; the
    // cross-entropy has no bound.
    float positives = 0, overlap = 0, foreground = 0, squares = 0;
    double positive_bce = 0, negative_bce = 0;
    for_own<1>(a.in.width, [&](int column) {
        for_pixels(a.in, at, column, [&](int, int, float x, float in, float frames) {
            const Pixel p = pixel(x);
            const float out = frames - in;
            positives += in;
            positive_bce += static_cast<double>(in) * p.cost_inside;
            negative_bce += static_cast<double>(out) * p.cost_outside;
            overlap += in * p.inside;
            foreground += frames * p.inside;
            squares += in * (p.outside * p.outside) + out * (p.inside * p.inside);
        });
    });
    double all[] = {positives, positive_bce, positive_bce + negative_bce,
                    overlap,   foreground,   squares};
    block_sum(all);
    if (threadIdx.x == 0) {
        for (int k = 0; k < 6; ++k) {
            a.sums[6 * at.index + k] = all[k];
        }
    }
}

__global__ void gradient(pass::MaskGradient a) {
    const CellRow at(a.in);
    const pass::MaskSlopes s = a.slopes[at.entity];
    for_own<1>(a.in.width, [&](int column) {
        float own = 0, above = 0, below = 0;
        for_pixels(
            a.in, at, column, [&](int pixel_row, int frame, float x, float in, float frames) {
                const Pixel p = pixel(x);
                const float slope = p.inside * p.outside;
                const float of_in = (s.everywhere + s.inside - p.outside * s.square) * slope -
                                    p.outside * (s.bce + s.extra_bce);
                const float of_out =
                    (s.everywhere + p.inside * s.square) * slope + p.inside * s.bce;
                const float grad = in * of_in + (frames - in) * of_out;
                if (a.cells != nullptr) {
                    a.cells[cell_element(a.in, at, column, pixel_row) + frame * kSide * kSide] =
                        grad;
                }
                const Between between(pixel_row);
                own += (1 - between.share) * grad;
                (between.is_above ? above : below) += between.share * grad;
            });
        if (a.rows != nullptr) {
            float* rows = a.rows + 3 * at.index * a.in.width + column;
            rows[0] = at.is_first ? 0 : above;
            rows[a.in.width] = own + (at.is_first ? above : 0) + (at.is_last ? below : 0);
            rows[2 * a.in.width] = at.is_last ? 0 : below;
        }
        for (int f = 0; a.cells != nullptr && f < at.first_frame; ++f) {
            for (int pixel_row = 0; pixel_row < kSide; ++pixel_row) {
                a.cells[cell_element(a.in, at, column, pixel_row) + f * kSide * kSide] = 0;
            }
        }
    });
}

}  // namespace
}  // namespace matrix::kernels::cuda

namespace matrix::kernels::pass {

void launch(const MaskSums& a, std::int64_t rows, Stream stream) {
    cuda::start(cuda::sums, rows, cuda::threads_for(a.in.width), stream, a);
}

void launch(const MaskGradient& a, std::int64_t rows, Stream stream) {
    cuda::start(cuda::gradient, rows, cuda::threads_for(a.in.width), stream, a);
}

}  // namespace matrix::kernels::pass
