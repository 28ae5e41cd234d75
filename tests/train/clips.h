#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <string>

#include "matrix/core/error.h"
#include "matrix/data_cache/sample.h"
#include "matrix/train/batch.h"

namespace matrix::test {

/// Clips that fit the model of the trajectory fixture, made from their row; odd rows have two
/// interactions.
class Clips : public data_cache::SampleSource {
public:
    explicit Clips(std::int64_t size) : size_(size) {}

    [[nodiscard]] std::int64_t size() const override { return size_; }
    [[nodiscard]] std::string fingerprint() const override { return std::to_string(size_); }
    [[nodiscard]] at::Tensor empty_prompt() const override { return at::full({8, 20}, -1.0); }

    [[nodiscard]] data_cache::EncodedSample get(std::int64_t row, std::uint64_t seed,
                                                std::uint64_t number) const override {
        if (row == broken_row) {
            throw RunError("clip " + std::to_string(row) + ": broken");
        }
        const auto wave = [&](at::IntArrayRef shape, double phase) {
            return (at::arange(c10::multiply_integers(shape), at::kFloat) * 1.7 +
                    static_cast<double>(row) + phase)
                .sin()
                .view(shape);
        };
        const std::int64_t interactions = 1 + row % 2;
        data_cache::EncodedSample sample;
        sample.name = "clip " + std::to_string(row);
        sample.video_moments = wave({32, 3, 4, 6}, 0.0);
        // The image version is the source's choice, by (seed, number).
        sample.image_moments = wave({32, 1, 4, 6}, static_cast<double>(seed % 97 + number));
        sample.image_clean_moments = wave({32, 1, 4, 6}, 0.2);
        sample.id_map_mean = wave({16, 1, 4, 6}, 0.3);
        sample.prompt = wave({8, 20}, 0.4);
        sample.token_mask = at::zeros({interactions, 3, 8}, at::kByte);
        sample.query_mask = at::zeros({interactions, 2, 2, 3}, at::kByte);
        sample.masks = at::zeros({interactions, 2, 9, 32, 48}, at::kByte);
        for (std::int64_t n = 0; n < interactions; ++n) {
            for (std::int64_t e = 0; e < 3; ++e) {
                sample.token_mask[n][e][(row + 2 * n + e) % 8] = 1;
            }
            for (std::int64_t e = 0; e < 2; ++e) {
                sample.query_mask[n][e][e][(row + n) % 3] = 1;
                sample.masks[n][e]
                    .slice(1, 16 * e, 16 * e + 12)
                    .slice(2, 4 * (row % 8), 30)
                    .fill_(1);
            }
        }
        ++reads;
        return sample;
    }

    std::int64_t broken_row = -1;
    mutable std::atomic<int> reads{0};

private:
    std::int64_t size_;
};

inline train::BatchRules id_map_rules() {
    train::BatchRules rules;
    rules.seed = 5;
    rules.scaling_factor = 0.7;
    rules.id_map = true;
    return rules;
}

}  // namespace matrix::test
