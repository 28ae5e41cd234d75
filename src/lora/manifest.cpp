#include "lora/manifest.h"

#include <nlohmann/json.hpp>
#include <set>

#include "lora/names.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"
#include "matrix/core/files.h"
#include "matrix/lora/export.h"

namespace matrix::lora {
namespace {

constexpr std::int64_t kFormatVersion = 1;
constexpr double kMost = 1e9;
constexpr const char* kFormat = "format";

struct Stored {
    std::int64_t format_version = kFormatVersion;
    double trained_alpha = 0.0;
    Manifest manifest;
};

FieldTable fields(Stored& s) {
    AdapterInfo& info = s.manifest.info;
    FieldTable table;
    table.add("format_version", s.format_version, "Of this file.");
    table.add(kFormat, s.manifest.format, "Dialect of the LoRA file; diffusers if left out.")
        .one_of(format_names());
    std::vector<std::string> files(kLoraFiles.begin(), kLoraFiles.end());
    files.insert(files.end(), kSidecarFiles.begin(), kSidecarFiles.end());
    table.add("files", s.manifest.files, "Files beside this one.").one_of(std::move(files));
    table.add("base", info.base, "Model directory it was trained on, for information.");
    table.add("r", info.rank, "Rank in the header of the LoRA file; 0 without one.")
        .range(0, kMost);
    table.add("alpha", info.alpha, "Equal to r: the strength is folded into B.");
    table.add("trained_alpha", s.trained_alpha, "Alpha of the training run, for information.");
    table.add("in_channels", info.in_channels, "Of the input projection while training.")
        .range(0, kMost);
    table.add("id_map", info.id_map, "Whether the model expects an ID map.");
    return table;
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
    Stored stored;
    stored.manifest = manifest;
    stored.trained_alpha = manifest.info.trained_alpha.value_or(manifest.info.alpha);
    nlohmann::json json = fields(stored).write();
    if (manifest.format == Manifest().format) {
        json.erase(kFormat);
    }
    return json.dump(2) + "\n";
}

Manifest read_manifest(const std::filesystem::path& path) {
    const std::string where = path.string();
    const nlohmann::json json = parse_json(read_text_file(path), where);
    Stored stored;
    const FieldTable table = fields(stored);
    const nlohmann::json all = table.write();
    std::vector<std::string> faults;
    if (!json.is_object()) {
        throw RunError(where + ": expected a JSON object");
    }
    if (json.contains("format_version") && json["format_version"] != kFormatVersion) {
        throw RunError(where + ": format_version: this program reads version " +
                       std::to_string(kFormatVersion));
    }
    table.read(json, faults);
    for (const auto& [name, unused] : all.items()) {
        if (!json.contains(name) && name != kFormat) {
            faults.push_back(name + ": missing");
        }
    }
    if (faults.empty() && stored.manifest.files.empty()) {
        faults.emplace_back("files: names no file");
    }
    if (faults.empty() &&
        stored.manifest.info.alpha != static_cast<double>(stored.manifest.info.rank)) {
        faults.emplace_back("alpha: differs from r, but the files' strength is folded in");
    }
    for (std::string& fault : faults) {
        fault = where + ": " + fault;
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
    stored.manifest.info.trained_alpha = stored.trained_alpha;
    return stored.manifest;
}

}  // namespace matrix::lora
