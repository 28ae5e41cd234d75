#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <filesystem>

namespace matrix::train {

/// `metrics.jsonl` of a run: one object a step, each line written whole and at once.
class MetricsFile {
public:
    /// Opens for appending; lines of steps after `last_step` (of a run that went further than its
    /// checkpoint) are dropped first, and so are lines that are no records, which a warning counts.
    MetricsFile(const std::filesystem::path& path, std::int64_t last_step);
    ~MetricsFile();
    MetricsFile(const MetricsFile&) = delete;
    MetricsFile& operator=(const MetricsFile&) = delete;

    void append(const nlohmann::json& record);
    /// Waits until the lines are on the disk; a checkpoint must not outlive the lines before it.
    void sync();

private:
    std::filesystem::path path_;
    int descriptor_ = -1;
};

}  // namespace matrix::train
