#include "cli/analyze/output.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>
#include <utility>

#include "cli/pictures/clips.h"
#include "matrix/analysis/tables.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"

namespace matrix::cli::analyze {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kRecords = "records";
constexpr const char* kSummary = "analysis.json";

Json parse(const fs::path& path) {
    try {
        return Json::parse(read_text_file(path));
    } catch (const nlohmann::json::exception& error) {
        throw UsageError(path.string() + ": is not JSON: " + error.what());
    }
}

}  // namespace

fs::path record_path(const fs::path& out, const std::string& video) {
    return out / kRecords / (pictures::stem_of(video) + ".safetensors");
}

fs::path video_path(const fs::path& out, const std::string& video) {
    return out / "videos" / (pictures::stem_of(video) + ".mp4");
}

Analysis read_analysis(const std::string& label, const std::vector<fs::path>& records,
                       const analysis::SummaryOptions& options) {
    Analysis analysis{label, {}, {}};
    for (const fs::path& record : records) {
        analysis.records.push_back(analysis::read_record(record));
    }
    analysis.summary = analysis::summarise(analysis.records, options);
    return analysis;
}

Analysis read_earlier(const fs::path& directory, const analysis::SummaryOptions& options) {
    const fs::path file = directory / kSummary;
    if (!fs::exists(file)) {
        throw RunError(directory.string() + ": holds no analysis (no " + kSummary + ")");
    }
    const Json json = parse(file);
    try {
        std::vector<fs::path> records;
        for (const Json& clip : json.at("clips")) {
            records.push_back(record_path(directory, clip.at("video")));
        }
        return read_analysis(json.at("label"), records, options);
    } catch (const nlohmann::json::exception& error) {
        throw RunError(file.string() + ": " + error.what());
    }
}

void write_tables(const fs::path& out, const Analysis& analysis) {
    write_file_atomically(out / "scores.csv", analysis::scores_csv(analysis.records));
    for (std::size_t i = 0; i < analysis::kVariants.size(); ++i) {
        const std::string name(analysis::kVariants[i].name);
        const analysis::VariantSummary& summary = analysis.summary.variants[i];
        write_file_atomically(out / ("influence_" + name + ".csv"),
                              analysis::influence_csv(summary));
        write_file_atomically(out / ("dominance_" + name + ".csv"),
                              analysis::dominance_csv(summary));
        write_file_atomically(out / ("variance_" + name + ".csv"), analysis::variance_csv(summary));
    }
    Json json = {{"label", analysis.label}};
    json.update(analysis::summary_json(analysis.records, analysis.summary));
    write_file_atomically(out / kSummary,
                          json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void write_config(const fs::path& config, const std::string& model,
                  const data_cache::DataConfig& data, const analysis::Summary& summary) {
    Json run = fs::exists(config) ? parse(config)
                                  : Json{{"model", {{"path", model}}},
                                         {"data",
                                          {{"path", data.path},
                                           {"frames", data.frames},
                                           {"height", data.height},
                                           {"width", data.width}}}};
    std::set<std::int64_t> all;
    try {
        for (const auto& [term, blocks] :
             {std::pair("sga", summary.sga_blocks), std::pair("spa", summary.spa_blocks)}) {
            Json& section = run["alignment"];
            if (section.contains(term) && section.at(term).is_null()) {
                continue;  // the run does without it
            }
            if (blocks.empty()) {
                throw RunError("--write-config: no layer was chosen for alignment." +
                               std::string(term) + "; " + config.string() + " is as it was");
            }
            section[term]["blocks"] = blocks;
            all.insert(blocks.begin(), blocks.end());
        }
        if (!all.empty()) {
            run["lora"]["blocks"] = all;
        }
    } catch (const nlohmann::json::exception& error) {
        throw UsageError(config.string() + ": is no run's configuration: " + error.what());
    }
    write_file_atomically(config, run.dump(2) + "\n");
}

std::vector<analysis::Outcome> read_outcomes(const fs::path& path) {
    const Json json = parse(path);
    if (!json.is_object()) {
        throw UsageError(path.string() + R"(: wants {"video": "success" or "failure", ...})");
    }
    std::vector<analysis::Outcome> outcomes;
    std::vector<std::string> faults;
    for (const auto& [video, outcome] : json.items()) {
        if (outcome == "success" || outcome == "failure") {
            outcomes.push_back({video, outcome == "success"});
        } else {
            faults.push_back(path.string() + ": " + video + R"( is neither "success" nor )" +
                             R"("failure": )" + outcome.dump());
        }
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
    return outcomes;
}

}  // namespace matrix::cli::analyze
