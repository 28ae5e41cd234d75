#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench/shape.h"

namespace matrix::cli::bench {

/// The command line of `matrix bench`.
struct Request {
    std::string preset;
    std::string shape_text;
    std::int64_t batch = 1;
    std::int64_t rank = 128;
    std::string blocks = "all";
    std::string input_projection = "frozen";
    std::string sga_blocks;
    std::string spa_blocks;
    std::string checkpointing = "on";
    double activation_budget_gib = 0.0;  ///< 0: none
    std::string base = "resident";
    bool fp8_matmul = false;
    std::string dtype_name = "float32";
    std::string device_name = "cpu";
    std::int64_t threads = 0;  ///< 0: as many as PyTorch takes
    std::int64_t warmup = 2;
    std::int64_t steps = 5;
    std::uint64_t seed = 0;
    std::string write_inputs;
    bool json = false;

    /// UsageError unless exactly one of --preset and --shape is given and is good.
    [[nodiscard]] Shape shape() const;
    [[nodiscard]] at::ScalarType dtype() const;
    [[nodiscard]] at::Device device() const;
};

/// "0,2,5", or where `all` is allowed "all". UsageError naming `flag` for blocks that are none of
/// `layers` or named twice.
[[nodiscard]] std::vector<std::int64_t> parse_blocks(const std::string& text,
                                                     const std::string& flag, std::int64_t layers,
                                                     bool all);

}  // namespace matrix::cli::bench
