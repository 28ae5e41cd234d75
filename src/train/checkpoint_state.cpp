#include "train/checkpoint_state.h"

#include <c10/util/Exception.h>

#include <nlohmann/json.hpp>

#include "matrix/core/fields.h"
#include "matrix/core/files.h"

namespace matrix::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kFormatVersion = 2;
constexpr const char* kStateFile = "state.json";
constexpr const char* kChecksums = "checksums";

std::string checksum_of_state(json state) {
    state.erase(kChecksums);  // a checksum cannot cover itself
    return hash_text(state.dump());
}

/// The entries of `state.json`.
class Reader {
public:
    explicit Reader(fs::path path)
        : path_(std::move(path)), json_(parse_json(read_text_file(path_), path_.string())) {
        if (!json_.is_object()) {
            throw RunError(path_.string() + ": not a JSON object");
        }
    }

    [[nodiscard]] const json& at(const std::string& key) const {
        if (!json_.contains(key)) {
            throw RunError(path_.string() + ": " + key + " is missing");
        }
        return json_[key];
    }
    [[nodiscard]] std::int64_t count(const std::string& key) const {
        return as_count(at(key), key);
    }
    [[nodiscard]] std::vector<std::array<std::int64_t, 2>> ranges(const std::string& key) const {
        std::vector<std::array<std::int64_t, 2>> found;
        expect(at(key).is_array(), key, "a list");
        for (const json& range : at(key)) {
            expect(range.is_array() && range.size() == 2, key, "a list of pairs");
            found.push_back({as_count(range[0], key), as_count(range[1], key)});
            expect(found.back()[0] < found.back()[1], key, "a list of half-open ranges");
        }
        return found;
    }
    [[nodiscard]] bool has_checksum_of_itself() const {
        const auto all = json_.find(kChecksums);
        return all != json_.end() && all->is_object() && all->contains(kStateFile);
    }
    [[nodiscard]] std::string checksum(const std::string& file) const {
        const json& all = at(kChecksums);
        expect(all.is_object() && all.contains(file) && all[file].is_string(), kChecksums,
               "an object with the checksum of " + file);
        return all[file].get<std::string>();
    }
    void check_itself() const {
        if (checksum(kStateFile) != checksum_of_state(json_)) {
            throw RunError(path_.string() + ": its content is not what was written");
        }
    }
    void expect(bool holds, const std::string& key, const std::string& what) const {
        if (!holds) {
            throw RunError(path_.string() + ": " + key + " is not " + what);
        }
    }

private:
    [[nodiscard]] std::int64_t as_count(const json& value, const std::string& key) const {
        expect(value.is_number_integer() && value.get<std::int64_t>() >= 0, key, "a count");
        return value.get<std::int64_t>();
    }

    fs::path path_;
    json json_;
};

TrainState state_of(const Reader& reader, std::int64_t version) {
    TrainState state = {reader.count("step"), reader.count("next_sample")};
    if (version == 1) {
        return state;
    }
    state.global_batch = reader.count("global_batch");
    state.skipped = reader.ranges("skipped");
    if (const json& score = reader.at("score"); !score.is_null()) {
        const json& metric = reader.at("score_metric");
        reader.expect(score.is_number(), "score", "a number");
        reader.expect(metric.is_string(), "score_metric", "a string");
        state.score = score.get<double>();
        state.score_metric = metric.get<std::string>();
    }
    if (const json& config = reader.at("config"); !config.is_null()) {
        reader.expect(config.is_object(), "config", "an object");
        state.config = config.dump();
    }
    return state;
}

}  // namespace

void write_state(const fs::path& directory, const TrainState& state) {
    TORCH_CHECK(state.score.has_value() != state.score_metric.empty(),
                "TrainState: a score goes with the name of its metric");
    json text = {{"format_version", kFormatVersion}, {"step", state.step},
                 {"next_sample", state.next_sample}, {"global_batch", state.global_batch},
                 {"skipped", state.skipped},         {"score", nullptr},
                 {"score_metric", nullptr},          {"config", nullptr}};
    if (state.score) {
        text["score"] = *state.score;
        text["score_metric"] = state.score_metric;
    }
    if (!state.config.empty()) {
        text["config"] = parse_json(state.config, "the run's configuration");
        TORCH_CHECK(text["config"].is_object(), "TrainState: config is no JSON object");
    }
    text[kChecksums][kStateFile] = checksum_of_state(text);
    for (const char* file : kTensorFiles) {
        text[kChecksums][file] = hash_file(directory / file);
    }
    write_file_atomically(directory / kStateFile, text.dump(2) + "\n");
}

StateFile read_state(const fs::path& directory) {
    const Reader reader(directory / kStateFile);
    const std::int64_t version = reader.count("format_version");
    // Before the version is believed: a damaged one must not pass for another program's.
    if (version == kFormatVersion || reader.has_checksum_of_itself()) {
        reader.check_itself();
    }
    if (version < 1 || version > kFormatVersion) {
        throw OtherVersion((directory / kStateFile).string() + ": format version " +
                           std::to_string(version) + ", this program reads 1 to " +
                           std::to_string(kFormatVersion) +
                           "; go on with the program that wrote it, or from another checkpoint");
    }
    StateFile found = {state_of(reader, version), {}};
    if (version > 1) {
        for (const char* file : kTensorFiles) {
            found.checksums[file] = reader.checksum(file);
        }
    }
    return found;
}

StateFile read_verified_state(const fs::path& directory) {
    StateFile found = read_state(directory);
    for (const char* name : kTensorFiles) {
        const fs::path file = directory / name;
        if (!found.checksums.empty() && hash_file(file) != found.checksums.at(name)) {
            throw RunError(file.string() + ": its content is not what was written");
        }
        const tensor_io::SafetensorsFile readable(file);
    }
    return found;
}

}  // namespace matrix::train
