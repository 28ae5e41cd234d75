#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace matrix::cli::pictures {

/// The records of a run so far: those in its files, then the ones added.
class History {
public:
    /// One object a line; a file that is not there has none, and a line that is no record ends its
    /// file.
    void read(const std::vector<std::filesystem::path>& files);
    void add(nlohmann::json record) { records_.push_back(std::move(record)); }
    [[nodiscard]] bool empty() const { return records_.empty(); }

    /// The number at a path of keys ("validation/train/auc_v2t") over the steps that have it; null
    /// is NaN.
    struct Series {
        std::vector<double> steps;
        std::vector<double> values;
    };
    [[nodiscard]] Series series(const std::string& path) const;

private:
    std::vector<nlohmann::json> records_;
};

}  // namespace matrix::cli::pictures
