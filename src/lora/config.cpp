#include "matrix/lora/config.h"

#include <cmath>
#include <set>

namespace matrix::lora {

double delta_scale(std::int64_t rank, double alpha, bool rslora) {
    return alpha / (rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
}

FieldTable fields(LoraConfig& c) {
    FieldTable table;
    table.add("rank", c.rank, "Rank r of every low-rank delta (paper: 128).").range(1, 4096);
    table.add("alpha", c.alpha, "Numerator of the scale alpha / r (paper: 64).").above(0, 1e6);
    table.add("rslora", c.rslora, "Scale alpha / sqrt(r) instead of alpha / r.");
    table.add("targets", c.targets, "Attention linears that get a delta.")
        .one_of({"to_q", "to_k", "to_v", "to_out.0"});
    table
        .add("blocks", c.blocks,
             "Blocks that get deltas, from 0 (paper: the interaction-dominant 7, 11, 12).")
        .range(0, 1023);
    table
        .add("input_projection", c.input_projection,
             "How the patch embedding's projection trains: whole (paper), as a LoRA of the "
             "convolution, or not at all.")
        .one_of({"full", "lora", "frozen"});
    table.add("init_from", c.init_from,
              "Adapter that a new run starts from, a path to any that can be read; a run that is "
              "resumed has its checkpoint.");
    return table;
}

std::vector<std::string> check(const LoraConfig& config, std::int64_t num_blocks, bool id_map) {
    std::vector<std::string> faults;
    std::set<std::int64_t> seen;
    for (const std::int64_t block : config.blocks) {
        if (block >= num_blocks) {
            faults.push_back("lora.blocks: block " + std::to_string(block) +
                             " does not exist, the model has blocks 0.." +
                             std::to_string(num_blocks - 1));
        }
        if (!seen.insert(block).second) {
            faults.push_back("lora.blocks: block " + std::to_string(block) + " is named twice");
        }
    }
    std::set<std::string> targets;
    for (const std::string& target : config.targets) {
        if (!targets.insert(target).second) {
            faults.push_back("lora.targets: \"" + target + "\" is named twice");
        }
    }
    if (config.input_projection == "frozen" && (config.blocks.empty() || config.targets.empty())) {
        faults.emplace_back(
            "lora.blocks: nothing of the model would train; name blocks and targets, or set "
            "lora.input_projection to \"full\" or \"lora\"");
    }
    if (id_map && config.input_projection == "frozen") {
        faults.emplace_back(
            "lora.input_projection: \"frozen\" cannot learn the ID map's channels; use \"full\" or "
            "\"lora\", "
            "or set data.id_map to false");
    }
    return faults;
}

}  // namespace matrix::lora
