#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/run_config.h"
#include "matrix/models/block_weights.h"
#include "matrix/models/cogvideox.h"
#include "matrix/nn/recompute.h"

namespace matrix::cli {

/// What a training step holds on its device, and how it was made to fit.
struct MemoryPlan {
    struct Item {
        std::string name;
        std::string what;
        std::int64_t bytes = 0;
    };
    std::vector<Item> items;
    std::vector<std::string> notes;
    std::string base;                                     ///< "resident", "streamed" or "fp8"
    bool fp8_matmul = false;                              ///< of an "fp8" base
    std::string policy;                                   ///< what blocks keep, for people
    std::vector<nn::Keep> keep;                           ///< of every block
    std::int64_t host_weights = 0, host_activations = 0;  ///< bytes in the host's memory

    [[nodiscard]] std::int64_t total_bytes() const;
    /// Without headroom: the most that tensors take at once.
    [[nodiscard]] std::int64_t tensor_bytes() const;
    /// 0 for an item that there is not.
    [[nodiscard]] std::int64_t bytes_of(const std::string& item) const;
    /// One line of it.
    [[nodiscard]] std::string summary() const;
    /// A table for the terminal.
    [[nodiscard]] std::string text() const;
};

/// On one of `num_ranks` processes, from the model's config.json files alone. `free_bytes` is what
/// "auto" means for memory.device_budget_gib; nothing: no budget. Blocks keep as much as fits, in
/// the host's memory before attention runs twice: that moves what it frees, where streaming moves
/// all blocks. A base of "auto" is streamed where a resident one would not fit or have attention
/// run twice; a float8 base, whose values differ, is never chosen. UsageError naming the nearest
/// setting that fits if none of these does.
[[nodiscard]] MemoryPlan memory_plan(const RunConfig& config, std::int64_t num_ranks,
                                     std::optional<std::int64_t> free_bytes);

/// The same for a transformer that is in no directory, and without encoders.
[[nodiscard]] MemoryPlan memory_plan(const RunConfig& config, const models::CogVideoXConfig& model,
                                     std::int64_t num_ranks,
                                     std::optional<std::int64_t> free_bytes);

/// "1.25 GiB".
[[nodiscard]] std::string gib_text(std::int64_t bytes);

/// Where the frozen blocks live by a plan.
[[nodiscard]] std::unique_ptr<models::BlockWeights> blocks_at(const MemoryPlan& plan);

}  // namespace matrix::cli
