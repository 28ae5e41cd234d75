#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/run_config.h"

namespace matrix::cli {

/// What a training step holds on its device, counted from configurations alone.
struct MemoryPlan {
    struct Item {
        std::string name;
        std::string what;
        std::int64_t bytes = 0;
    };
    std::vector<Item> items;
    std::vector<std::string> notes;

    [[nodiscard]] std::int64_t total_bytes() const;
    /// A table for the terminal.
    [[nodiscard]] std::string text() const;
};

/// On one of `num_ranks` processes. Counts parameters through the model's own constructor, and
/// activations by the policy of `memory.checkpointing`: per block that a gradient passes, the
/// tensors it keeps. Reads the model's config.json files, no weights.
[[nodiscard]] MemoryPlan memory_plan(const RunConfig& config, std::int64_t num_ranks);

}  // namespace matrix::cli
