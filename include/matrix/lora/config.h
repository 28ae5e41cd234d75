#pragma once

#include "matrix/core/fields.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace matrix::lora {

/// The factor on a delta's product: alpha / r, or alpha / sqrt(r) with rslora.
[[nodiscard]] double delta_scale(std::int64_t rank, double alpha, bool rslora);

/// Which linears get a low-rank delta, and how the input projection trains.
struct LoraConfig {
    std::int64_t rank = 128;
    double alpha = 64.0;
    bool rslora = false;
    std::vector<std::string> targets = {"to_q", "to_k", "to_v", "to_out.0"};
    std::vector<std::int64_t> blocks = {7, 11, 12};
    std::string input_projection = "full";  ///< "full", "lora" or "frozen"
    std::optional<std::string> init_from;   ///< an adapter whose effect is that of step 0

    [[nodiscard]] double scale() const { return delta_scale(rank, alpha, rslora); }
};

[[nodiscard]] FieldTable fields(LoraConfig& config);

/// Faults that no single field shows, one line each: a block the model has not, a block or target
/// named twice, a frozen projection under an ID map.
[[nodiscard]] std::vector<std::string> check(const LoraConfig& config, std::int64_t num_blocks,
                                             bool id_map);

}  // namespace matrix::lora
