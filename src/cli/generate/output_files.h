#pragma once

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <string>
#include <vector>

#include "cli/generate/settings.h"

namespace matrix::cli::generate {

/// The files of one video, all of one stem: STEM.mp4, STEM.gif, the frames STEM/000.png..., and
/// STEM.json, what they were made from.
class OutputFiles {
public:
    /// UsageError where `out` ends in neither .mp4 nor .gif and `formats` says nothing.
    explicit OutputFiles(const VideoSettings& settings);

    [[nodiscard]] const std::filesystem::path& stem() const { return stem_; }
    /// What is written, without the record.
    [[nodiscard]] std::vector<std::filesystem::path> paths() const;
    /// Whether all of it is there and was made from `record`.
    [[nodiscard]] bool are_made_from(const nlohmann::json& record) const;
    /// RunError, before any work, where something is in the way or the directory cannot be written.
    void check_writable() const;
    /// Frames [T, H, W, 3] uint8, each file complete or absent; the record comes last.
    void write(const at::Tensor& frames, double frames_per_second,
               const nlohmann::json& record) const;

private:
    [[nodiscard]] std::filesystem::path with_ending(const std::string& ending) const;

    std::filesystem::path stem_;
    std::vector<std::string> formats_;
};

}  // namespace matrix::cli::generate
