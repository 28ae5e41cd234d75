#include "cli/bench/flop.h"

#include <algorithm>

// S rows of the joint sequence, L of them text, N video, D width, E embedding width, r rank.

namespace matrix::cli::bench {
namespace {

constexpr double kPatch = 4.0;  // latents a token
constexpr double kOutChannels = 16.0;

struct Sizes {
    double s, l, n, d, e, r;
    [[nodiscard]] double square() const { return s * d * d; }
    [[nodiscard]] double attention() const { return 4 * s * s * d; }
    [[nodiscard]] double deltas() const { return 16 * s * d * r; }
    [[nodiscard]] double modulation() const { return 24 * e * d; }
};

/// One block's backward. The lowest block that trains passes nothing on, so that its three input
/// products end there.
double block_backward(const Sizes& z, bool has_delta, bool passes_on) {
    const double deltas = has_delta ? 2 * z.deltas() - (passes_on ? 0 : 6 * z.s * z.d * z.r) : 0;
    return (passes_on ? 24 : 18) * z.square() + 2.5 * z.attention() + deltas;
}

/// What backward runs again of a block's forward: never the feed-forward's second product.
double block_again(const Sizes& z, bool has_delta, nn::Keep keep) {
    const double deltas = has_delta ? z.deltas() : 0;
    double again = 0;
    if (keep < nn::Keep::kProducts) {
        again += 8 * z.square();
    }
    if (keep < nn::Keep::kRows) {
        again += 8 * z.square() + deltas;
    } else if (keep < nn::Keep::kProducts) {
        again += deltas / 2;  // the first of a delta's two products
    }
    return keep < nn::Keep::kOffloaded ? again + z.attention() : again;
}

}  // namespace

Flop step_flop(const Shape& shape, const lora::LoraConfig& lora, std::int64_t batch,
               const std::vector<nn::Keep>& keep) {
    const auto number = [](std::int64_t value) { return static_cast<double>(value); };
    const Sizes z{
        number(shape.tokens()), number(shape.text),       number(shape.tokens() - shape.text),
        number(shape.dim()),    number(shape.time_width), number(lora.rank)};
    const double patch_in = 2 * z.n * z.d * kPatch * number(shape.channels);
    const double patch_out = 2 * z.n * z.d * kPatch * kOutChannels;
    const bool input_trains = lora.input_projection != "frozen";
    const std::int64_t lowest =
        input_trains ? 0 : *std::min_element(lora.blocks.begin(), lora.blocks.end());

    Flop flop;
    flop.forward = patch_in + patch_out + 2 * z.l * z.d * number(shape.text_width) +
                   2 * z.e * (z.d + z.e) + 4 * z.e * z.d;
    flop.backward = patch_out + (lora.input_projection == "full" ? patch_in : 0);
    if (lora.input_projection == "lora") {
        const double delta = 2 * z.n * z.r * (kPatch * number(shape.channels) + z.d);
        flop.forward += delta;
        flop.backward += 2 * z.n * z.r * z.d + delta;
    }
    for (std::int64_t i = 0; i < shape.layers; ++i) {
        const bool has_delta =
            std::find(lora.blocks.begin(), lora.blocks.end(), i) != lora.blocks.end();
        flop.forward +=
            24 * z.square() + z.attention() + z.modulation() + (has_delta ? z.deltas() : 0);
        if (i < lowest) {
            continue;
        }
        flop.backward += block_backward(z, has_delta, i > lowest || input_trains);
        flop.recomputed += block_again(z, has_delta, keep.at(static_cast<std::size_t>(i)));
    }
    for (double* part : {&flop.forward, &flop.backward, &flop.recomputed}) {
        *part *= number(batch);
    }
    return flop;
}

}  // namespace matrix::cli::bench
