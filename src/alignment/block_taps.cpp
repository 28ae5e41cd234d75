#include "block_taps.h"

#include "matrix/alignment/readout.h"
#include "presence.h"

#include <ATen/ATen.h>

namespace matrix::alignment {
namespace {

nn::Tap tap_of(std::vector<AttentionReadout> readouts, nn::Tap::OverHeads over_heads) {
    const auto read = [readouts = std::move(readouts)](const nn::TapInput& input) {
        std::vector<at::Tensor> maps;
        for (const AttentionReadout& readout : readouts) {
            maps.push_back(readout.read(input.query, input.key, input.log_sum_exp, input.layout));
        }
        return maps.size() == 1 ? maps.front() : at::cat(maps, 1);
    };
    return {read, over_heads};
}

std::vector<at::Tensor> term_maps(const std::vector<std::int64_t>& blocks,
                                  const std::map<std::int64_t, at::Tensor>& taps,
                                  std::int64_t interactions, std::int64_t entities, bool last) {
    std::vector<at::Tensor> maps;
    for (const std::int64_t block : blocks) {
        const auto found = taps.find(block);
        TORCH_CHECK(found != taps.end(), "no tap output of block ", block);
        const std::int64_t count = interactions * entities, all = found->second.size(1);
        TORCH_CHECK(count <= all, "the tap output of block ", block, " has ", all,
                    " entities, want at least ", count);
        maps.push_back(found->second.narrow(1, last ? all - count : 0, count)
                           .unflatten(1, {interactions, entities}));
    }
    return maps;
}

}  // namespace

std::map<std::int64_t, nn::Tap> make_taps(const AlignmentConfig& config,
                                          const Supervision& supervision, ProbabilityDomain domain,
                                          at::Device device) {
    ReadoutOptions options;
    if (config.readout == "probabilities") {
        options.value = domain == ProbabilityDomain::kLog ? ReadoutOptions::Value::kLogProbabilities
                                                          : ReadoutOptions::Value::kProbabilities;
    }
    std::map<std::int64_t, std::vector<AttentionReadout>> readouts;
    if (config.sga) {
        ReadoutOptions grounding = options;
        grounding.direction = parse_direction(config.sga->rows);
        if (grounding.direction == ReadoutOptions::Direction::kV2t &&
            grounding.value == ReadoutOptions::Value::kLogits) {
            grounding.center = parse_center(config.center);
        }
        const AttentionReadout readout(grounding, supervision.token_mask.flatten(1, 2), device);
        for (const std::int64_t block : config.sga->blocks) {
            readouts[block].push_back(readout);
        }
    }
    if (config.spa) {
        options.direction = ReadoutOptions::Direction::kV2v;
        const AttentionReadout readout(options, supervision.query_mask.flatten(1, 2), device);
        for (const std::int64_t block : config.spa->blocks) {
            readouts[block].push_back(readout);
        }
    }
    const auto over_heads = options.value == ReadoutOptions::Value::kLogProbabilities
                                ? nn::Tap::OverHeads::kLogMean
                                : nn::Tap::OverHeads::kMean;
    std::map<std::int64_t, nn::Tap> taps;
    for (auto& [block, list] : readouts) {
        taps[block] = tap_of(std::move(list), over_heads);
    }
    return taps;
}

std::vector<at::Tensor> grounding_maps(const AlignmentConfig& config,
                                       const std::map<std::int64_t, at::Tensor>& taps,
                                       std::int64_t interactions) {
    return term_maps(config.sga->blocks, taps, interactions, kGroundingEntities, /*last=*/false);
}

std::vector<at::Tensor> propagation_maps(const AlignmentConfig& config,
                                         const std::map<std::int64_t, at::Tensor>& taps,
                                         std::int64_t interactions) {
    return term_maps(config.spa->blocks, taps, interactions, kPropagationEntities, /*last=*/true);
}

}  // namespace matrix::alignment
