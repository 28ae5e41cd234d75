#include "cli/pictures/attention_maps.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <set>
#include <vector>

#include "matrix/alignment/scores.h"
#include "matrix/train/step.h"

namespace matrix::cli::pictures {
namespace {

constexpr std::int64_t kWords = 3, kTracks = 2;  // entities of the two terms

/// Keeps what attention shows in place of a loss.
class MapObjective final : public alignment::Objective {
public:
    MapObjective(const alignment::AlignmentConfig& config, at::Device device)
        : config_(config), device_(device) {}

    [[nodiscard]] std::map<std::int64_t, nn::Tap> taps(
        const alignment::Supervision& supervision) const override {
        const nn::Tap tap = alignment::AttentionScorer(config_, supervision, device_).tap();
        std::map<std::int64_t, nn::Tap> taps;
        for (const std::int64_t block : supervised_blocks()) {
            taps[block] = tap;
        }
        return taps;
    }

    [[nodiscard]] alignment::Evaluation evaluate(
        const std::map<std::int64_t, at::Tensor>& tap_outputs, const alignment::Supervision&,
        const nn::TokenLayout&, double, bool) override {
        // [1, 3 + 3 + 2 + 2, F, gh, gw]: logits and probabilities of the words, then of the tracks.
        if (config_.sga) {
            maps_.words = mean_map(tap_outputs, config_.sga->blocks, 0, kWords);
        }
        if (config_.spa) {
            maps_.tracks =
                mean_map(tap_outputs, config_.spa->blocks, config_.sga ? 2 * kWords : 0, kTracks);
        }
        return {};
    }

    [[nodiscard]] std::map<std::string, at::Tensor> parameters() const override { return {}; }
    [[nodiscard]] const ClipMaps& maps() const { return maps_; }

private:
    [[nodiscard]] std::set<std::int64_t> supervised_blocks() const {
        std::set<std::int64_t> blocks;
        if (config_.sga) {
            blocks.insert(config_.sga->blocks.begin(), config_.sga->blocks.end());
        }
        if (config_.spa) {
            blocks.insert(config_.spa->blocks.begin(), config_.spa->blocks.end());
        }
        return blocks;
    }

    /// As the losses see it: the mean over a term's blocks.
    static at::Tensor mean_map(const std::map<std::int64_t, at::Tensor>& tap_outputs,
                               const std::vector<std::int64_t>& blocks, std::int64_t begin,
                               std::int64_t entities) {
        std::vector<at::Tensor> maps;
        for (const std::int64_t block : blocks) {
            maps.push_back(tap_outputs.at(block)[0].narrow(0, begin, entities));
        }
        return at::stack(maps).to(at::kCPU, at::kFloat).mean(0);
    }

    const alignment::AlignmentConfig& config_;
    at::Device device_;
    ClipMaps maps_;
};

at::Tensor from_frame(const at::Tensor& map, std::int64_t first) {
    return map.narrow(0, first, map.size(0) - first).flatten();
}

at::Tensor cells_of(const at::Tensor& track, std::int64_t first_frame) {
    return from_frame(alignment::cell_coverage(track).ge(0.5), first_frame);
}

}  // namespace

ClipMaps read_maps(const train::RunParts& parts, const alignment::AlignmentConfig& config,
                   const train::Batch& batch) {
    MapObjective objective(config, parts.backbone.device());
    (void)train::run_batch(batch, parts.backbone, parts.schedule, objective,
                           {.with_gradients = false, .sequence = parts.ranks.sequence});
    return objective.maps();
}

void save_maps(const std::filesystem::path& path, const MapsByClip& maps) {
    tensor_io::TensorMap tensors;
    for (const auto& [clip, entry] : maps) {
        if (entry.words.defined()) {
            tensors[clip + "/words"] = entry.words;
        }
        if (entry.tracks.defined()) {
            tensors[clip + "/tracks"] = entry.tracks;
        }
    }
    tensor_io::write_safetensors(path, tensors);
}

MapsByClip load_maps(const std::filesystem::path& path) {
    MapsByClip maps;
    for (const auto& [name, tensor] : tensor_io::SafetensorsFile(path).all()) {
        const std::size_t slash = name.rfind('/');
        ClipMaps& entry = maps[name.substr(0, slash)];
        (name.substr(slash + 1) == "words" ? entry.words : entry.tracks) = tensor;
    }
    return maps;
}

std::string map_key(const PictureClip& clip) {
    return clip.set + "/" + clip.stem;
}

double map_auc(const at::Tensor& map, const at::Tensor& track, std::int64_t first_frame) {
    return alignment::roc_auc(from_frame(map, first_frame), cells_of(track, first_frame));
}

double map_bind(const at::Tensor& map, const at::Tensor& track, const at::Tensor& other,
                std::int64_t first_frame) {
    const at::Tensor own = cells_of(track, first_frame);
    const at::Tensor one = own.logical_xor(cells_of(other, first_frame));
    return alignment::roc_auc(from_frame(map, first_frame).masked_select(one),
                              own.masked_select(one));
}

at::Tensor standardised(const at::Tensor& map, std::int64_t first_frame) {
    const at::Tensor counted = from_frame(map, first_frame);
    return (map - counted.mean()) / counted.std().clamp_min(1e-12);
}

}  // namespace matrix::cli::pictures
