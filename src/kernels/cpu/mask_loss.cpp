#include "kernels/pass/mask_loss.h"

#include <algorithm>

#include "kernels/cpu/exp.h"

namespace matrix::kernels::cpu {
namespace {

constexpr std::int64_t kSide = pass::kCellPixels;
constexpr std::int64_t kRun =
    32 * kSide;  ///< columns whose sums, of at most a few a column, fit float32
constexpr std::int64_t kCell = kSide * kSide;  ///< pixels of a cell in one frame

/// Nothing is taken from 1, so that what is nearly right keeps its digits.
struct Pixel {
    float inside, outside;            ///< sigmoid(x), sigmoid(-x)
    float cost_inside, cost_outside;  ///< cross-entropy where y = 1, log(1 + exp(-x)), and y = 0
};

/// log(1 + e) for e in [0, 1], to a relative 3e-7; `quotient` is e / (2 + e).
MATRIX_CPU_INLINE float log_one_plus(float quotient) {
    // 2 atanh(z), interpolated in z^2 on [0, 1/9] at Chebyshev's nodes, to 1e-9.
    const float w = quotient * quotient;
    float p = 0.243939078F;
    p = p * w + 0.213985606F;
    p = p * w + 0.286202074F;
    p = p * w + 0.399987112F;
    p = p * w + 0.66666679F;
    p = p * w + 2.0F;
    return p * quotient;
}

MATRIX_CPU_INLINE Pixel pixel(float x) {
    const bool negative = x < 0;
    // The difference is zero, or no number where the logit is none: exp() would hide that.
    const float e = exp(negative ? x : -x) + (x - x);
    // 1 / (1 + e) and e / (2 + e) by one division.
    const float inverse = 1 / ((1 + e) * (2 + e));
    const float larger = (2 + e) * inverse, smaller = e * larger;
    const float both = log_one_plus(e * (1 + e) * inverse);
    return {negative ? smaller : larger, negative ? larger : smaller, (negative ? -x : 0) + both,
            (negative ? 0 : x) + both};
}

/// A row of cells in one step of one entity.
struct CellRow {
    std::int64_t index, entity;
    std::int64_t first_frame;   ///< of the step
    const float* rows;          ///< its own values
    std::int64_t above, below;  ///< from there to its neighbours', 0 where it has none
    std::int64_t cells;         ///< its first element of `cells`
    std::int64_t pixels;  ///< its first element of `y`, in frame 0 of the step, if that is a frame
    std::int64_t frame_pixels;

    MATRIX_CPU_INLINE CellRow(const pass::MaskCells& in, std::int64_t number) : index(number) {
        const std::int64_t of_entity = in.steps * in.height;
        entity = index / of_entity;
        const std::int64_t step = (index - entity * of_entity) / in.height;
        const std::int64_t row = index % in.height;
        first_frame = step == 0 ? in.frames - 1 : 0;
        rows = in.rows == nullptr ? nullptr : in.rows + index * in.width;
        above = row > 0 ? -in.width : 0;
        below = row + 1 < in.height ? in.width : 0;
        cells = index * in.width * kSide * in.frames;
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

    MATRIX_CPU_INLINE explicit Between(std::int64_t pixel_row) {
        const float offset = (static_cast<float>(pixel_row) + 0.5F) / kSide - 0.5F;
        is_above = offset < 0;
        share = is_above ? -offset : offset;
    }
};

/// Pixels side by side that have one logit in `frames` frames, and in how many y = 1.
struct Run {
    float x[kRun], positives[kRun];
    float frames;
};

/// `frame` of the step or, where no frame has a logit of its own, all of them from it on.
MATRIX_CPU_INLINE void load_run(const pass::MaskCells& in, const CellRow& at, std::int64_t begin,
                                std::int64_t count, std::int64_t pixel_row, std::int64_t frame,
                                Run& run) {
    if (at.rows == nullptr) {
        std::fill_n(run.x, count, 0.0F);
    } else {
        const Between between(pixel_row);
        const float *own = at.rows + begin, *next = own + (between.is_above ? at.above : at.below);
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) {
            run.x[i] = (1 - between.share) * own[i] + between.share * next[i];
        }
    }
    std::int64_t frames = in.frames - frame;
    if (in.cells != nullptr) {
        frames = 1;
        const float* cell =
            in.cells + at.cells + begin * kSide * in.frames + frame * kCell + pixel_row * kSide;
        for (std::int64_t i = 0; i < count; i += kSide, cell += kCell * in.frames) {
#pragma omp simd
            for (std::int64_t j = 0; j < kSide; ++j) {
                run.x[i + j] += cell[j];
            }
        }
    }
    run.frames = static_cast<float>(frames);
    std::fill_n(run.positives, count, 0.0F);
    const std::uint8_t* y =
        in.y + (at.pixels + frame * at.frame_pixels + pixel_row * in.width + begin);
    for (std::int64_t f = 0; f < frames; ++f, y += at.frame_pixels) {
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) {
            run.positives[i] += y[i] != 0 ? 1.0F : 0.0F;
        }
    }
}

/// Calls visit(begin, count, pixel_row, frame) for each run of a row of cells.
template <class Visit>
MATRIX_CPU_INLINE void for_each_run(const pass::MaskCells& in, const CellRow& at, Visit visit) {
    const std::int64_t frames_at_once = in.cells == nullptr ? in.frames : 1;
    for (std::int64_t begin = 0; begin < in.width; begin += kRun) {
        const std::int64_t count = std::min(kRun, in.width - begin);
        for (std::int64_t pixel_row = 0; pixel_row < kSide; ++pixel_row) {
            for (std::int64_t f = at.first_frame; f < in.frames; f += frames_at_once) {
                visit(begin, count, pixel_row, f);
            }
        }
    }
}

MATRIX_CPU_INLINE void add_run(const Run& run, std::int64_t count, double* sums) {
    float cost_inside[kRun], cost_outside[kRun];
    float positives = 0, overlap = 0, foreground = 0, squares = 0;
#pragma omp simd reduction(+ : positives, overlap, foreground, squares)
    for (std::int64_t i = 0; i < count; ++i) {
        const Pixel p = pixel(run.x[i]);
        const float in = run.positives[i], out = run.frames - in;
        cost_inside[i] = p.cost_inside;
        cost_outside[i] = p.cost_outside;
        positives += in;
        overlap += in * p.inside;
        foreground += run.frames * p.inside;
        squares += in * (p.outside * p.outside) + out * (p.inside * p.inside);
    }
    // Without a bound: in float32 the sum could overflow.
    double positive_bce = 0, negative_bce = 0;
#pragma omp simd reduction(+ : positive_bce, negative_bce)
    for (std::int64_t i = 0; i < count; ++i) {
        const double in = run.positives[i];
        positive_bce += in * cost_inside[i];
        negative_bce += (run.frames - in) * cost_outside[i];
    }
    const double all[] = {positives, positive_bce, positive_bce + negative_bce,
                          overlap,   foreground,   squares};
    for (int k = 0; k < 6; ++k) {
        sums[k] += all[k];
    }
}

MATRIX_CPU_INLINE void gradient_of(const Run& run, std::int64_t count, const pass::MaskSlopes& s,
                                   float* grad) {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
        const Pixel p = pixel(run.x[i]);
        const float slope = p.inside * p.outside;
        const float in = (s.everywhere + s.inside - p.outside * s.square) * slope -
                         p.outside * (s.bce + s.extra_bce);
        const float out = (s.everywhere + p.inside * s.square) * slope + p.inside * s.bce;
        grad[i] = run.positives[i] * in + (run.frames - run.positives[i]) * out;
    }
}

/// Where the gradient of a run goes.
MATRIX_CPU_INLINE void store_run(const pass::MaskGradient& a, const CellRow& at, std::int64_t begin,
                                 std::int64_t count, std::int64_t pixel_row, std::int64_t frame,
                                 const float* grad) {
    if (a.cells != nullptr) {
        float* cell =
            a.cells + at.cells + begin * kSide * a.in.frames + frame * kCell + pixel_row * kSide;
        for (std::int64_t i = 0; i < count; i += kSide, cell += kCell * a.in.frames) {
            std::copy_n(grad + i, kSide, cell);
        }
    }
    if (a.rows != nullptr) {
        const Between between(pixel_row);
        const std::int64_t away =
            between.is_above ? at.above : at.below;  // in.width, 0 or -in.width
        float *own = a.rows + (3 * at.index + 1) * a.in.width + begin, *next = own + away;
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) {
            own[i] += (1 - between.share) * grad[i];
        }
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) {
            next[i] += between.share * grad[i];
        }
    }
}

/// What is added to, and the frames of the first step that are none.
MATRIX_CPU_INLINE void clear(const pass::MaskGradient& a, const CellRow& at) {
    if (a.rows != nullptr) {
        std::fill_n(a.rows + 3 * at.index * a.in.width, 3 * a.in.width, 0.0F);
    }
    if (a.cells != nullptr && at.first_frame > 0) {
        for (std::int64_t j = 0; j < a.in.width / kSide; ++j) {
            std::fill_n(a.cells + at.cells + j * a.in.frames * kCell, at.first_frame * kCell, 0.0F);
        }
    }
}

}  // namespace
}  // namespace matrix::kernels::cpu

namespace matrix::kernels::pass {

MATRIX_CPU_CLONES void run(const MaskSums& a, std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
        const cpu::CellRow at(a.in, index);
        double* sums = a.sums + 6 * index;
        std::fill_n(sums, 6, 0.0);
        cpu::for_each_run(
            a.in, at, [&](auto first, auto count, auto pixel_row, auto frame) MATRIX_CPU_LAMBDA {
                cpu::Run run;
                cpu::load_run(a.in, at, first, count, pixel_row, frame, run);
                cpu::add_run(run, count, sums);
            });
    }
}

MATRIX_CPU_CLONES void run(const MaskGradient& a, std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
        const cpu::CellRow at(a.in, index);
        const MaskSlopes slopes = a.slopes[at.entity];
        cpu::clear(a, at);
        cpu::for_each_run(
            a.in, at, [&](auto first, auto count, auto pixel_row, auto frame) MATRIX_CPU_LAMBDA {
                cpu::Run run;
                float grad[cpu::kRun];
                cpu::load_run(a.in, at, first, count, pixel_row, frame, run);
                cpu::gradient_of(run, count, slopes, grad);
                cpu::store_run(a, at, first, count, pixel_row, frame, grad);
            });
    }
}

}  // namespace matrix::kernels::pass
