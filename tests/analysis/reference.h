#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "matrix/analysis/recorder.h"
#include "matrix/nn/token_layout.h"
#include "support/tensors.h"

// The whole attention matrix in float64, then one entity, frame and cell after the other: what the
// recorder must come to without ever holding it.

namespace matrix::analysis::testing {

struct Reference {
    at::Tensor probabilities;  // [S, S], the mean over heads
    nn::TokenLayout layout;

    Reference(const at::Tensor& q, const at::Tensor& k, const nn::TokenLayout& of) : layout(of) {
        const at::Tensor query = q[0].to(at::kDouble), key = k[0].to(at::kDouble);
        probabilities = (at::matmul(query, key.mT()) / std::sqrt(static_cast<double>(q.size(3))))
                            .softmax(-1)
                            .mean(0);
    }

    /// Mean over the rows or columns in `set`, or of those outside it, by video cell.
    [[nodiscard]] at::Tensor words(const at::Tensor& set) const {
        const at::Tensor p = probabilities.narrow(0, layout.video_begin(), layout.video_tokens());
        return mean_of(p.narrow(1, 0, layout.text_tokens).t(), set);
    }
    [[nodiscard]] at::Tensor tracks(const at::Tensor& set) const {
        const at::Tensor p = probabilities.narrow(0, layout.video_begin(), layout.frame_tokens());
        return mean_of(p.narrow(1, layout.video_begin(), layout.video_tokens()), set);
    }

private:
    [[nodiscard]] at::Tensor mean_of(const at::Tensor& rows, const at::Tensor& set) const {
        at::Tensor sum = at::zeros({layout.video_tokens()}, at::kDouble);
        double count = 0;
        for (std::int64_t i = 0; i < set.numel(); ++i) {
            if (set[i].item<bool>()) {
                sum += rows[i];
                ++count;
            }
        }
        return (sum / count).view({layout.frames, layout.grid_height, layout.grid_width});
    }
};

/// The eight metrics, cell by cell.
inline at::Tensor metrics(const at::Tensor& own, const at::Tensor& other, const at::Tensor& mask) {
    double sums[4] = {}, inside = 0;
    const at::Tensor a = own.flatten(), b = other.flatten(), m = mask.flatten();
    for (std::int64_t i = 0; i < m.numel(); ++i) {
        const bool in = m[i].item<bool>();
        inside += in ? 1 : 0;
        sums[in ? 0 : 1] += a[i].item<double>();
        sums[in ? 2 : 3] += b[i].item<double>();
    }
    const double outside = static_cast<double>(m.numel()) - inside;
    return at::tensor({sums[0], sums[1], sums[2], sums[3], sums[0] / inside, sums[1] / outside,
                       sums[2] / inside, sums[3] / outside},
                      at::kDouble);
}

/// Two words in five and three cells in ten, of a frame at least one.
inline Entity entity(const char* name, std::int64_t seed, const nn::TokenLayout& layout) {
    at::Generator generator = at::detail::createCPUGenerator();
    generator.set_current_seed(static_cast<std::uint64_t>(seed));
    Entity e;
    e.name = name;
    e.tokens = at::rand({layout.text_tokens}, generator).lt(0.4);
    e.tokens[1] = true;
    e.cells = at::rand({layout.frames, layout.grid_height, layout.grid_width}, generator).lt(0.3);
    e.cells[0][0][0] = true;
    return e;
}

inline void expect_reading(const LayerReading& reading, const std::vector<Entity>& entities,
                           const Reference& reference, double tolerance) {
    for (std::size_t i = 0; i < entities.size(); ++i) {
        const Entity& e = entities[i];
        const auto at = static_cast<std::int64_t>(i);
        const at::Tensor first = e.cells[0].flatten();
        const at::Tensor words = reference.words(e.tokens), tracks = reference.tracks(first);
        test::expect_close(reading.v2t[at], words, tolerance, "v2t map");
        test::expect_close(reading.v2v[at], tracks, tolerance, "v2v map");
        const at::Tensor other_words = reference.words(e.tokens.logical_not());
        const at::Tensor other_tracks = reference.tracks(first.logical_not());
        const auto close = [&](const at::Tensor& value, const at::Tensor& wanted,
                               const char* what) {
            EXPECT_TRUE(at::allclose(value, wanted, tolerance, tolerance * 1e-3, true))
                << what << " of " << e.name << ": " << value << " wanted " << wanted;
        };
        close(reading.v2t_scores[at], metrics(words, other_words, e.cells), "v2t");
        close(reading.v2v_scores[at][0], metrics(tracks, other_tracks, e.cells), "whole");
        const auto part = [](const at::Tensor& t, std::int64_t begin) {
            return t.narrow(0, begin, begin == 0 ? 1 : t.size(0) - 1);
        };
        close(reading.v2v_scores[at][1],
              metrics(part(tracks, 0), part(other_tracks, 0), part(e.cells, 0)), "first");
        close(reading.v2v_scores[at][2],
              metrics(part(tracks, 1), part(other_tracks, 1), part(e.cells, 1)), "cross");
    }
}

}  // namespace matrix::analysis::testing
