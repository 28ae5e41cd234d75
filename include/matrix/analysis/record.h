#pragma once

#include "matrix/analysis/entities.h"
#include "matrix/analysis/recorder.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

// E entities, S steps, l layers, F x gh x gw video cells.

namespace matrix::analysis {

/// Everything that was read of one clip, and the file that holds it.
struct VideoRecord {
    std::string video;   ///< of the data set's row
    std::string prompt;  ///< as it was tokenised
    std::vector<Entity> entities;
    std::vector<std::int64_t> timesteps = {};  ///< [S] in the order of the steps
    at::Tensor v2t_scores = {};                ///< [E, S, l, 8] float64
    at::Tensor v2v_scores = {};                ///< [E, S, l, 3, 8] float64
    at::Tensor v2t = {};  ///< [E, l, F, gh, gw] float32, the mean over the steps
    at::Tensor v2v = {};  ///< the same
    /// What the record was made from, in the maker's words: another text is another record.
    std::string made_from = {};

    [[nodiscard]] std::int64_t num_layers() const { return v2t_scores.size(2); }
    /// The Attention Alignment Scores, [E, S, l].
    [[nodiscard]] at::Tensor aas(bool of_v2v) const;
};

/// Gathers a record, step by step.
class RecordBuilder {
public:
    RecordBuilder(VideoRecord start, std::int64_t num_layers);
    /// The tap outputs of all layers at one step.
    void add(std::int64_t timestep, const AttentionRecorder& recorder,
             const std::map<std::int64_t, at::Tensor>& tap_outputs);
    [[nodiscard]] VideoRecord finish() const;

private:
    VideoRecord record_;
    std::int64_t num_layers_;
    std::vector<at::Tensor> v2t_scores_, v2v_scores_;  // by step
    at::Tensor v2t_, v2v_;                             // sums over the steps, float64
};

/// A safetensors file, complete or absent.
void write_record(const std::filesystem::path& path, const VideoRecord& record);
/// RunError naming the file where it is none of these.
[[nodiscard]] VideoRecord read_record(const std::filesystem::path& path);

}  // namespace matrix::analysis
