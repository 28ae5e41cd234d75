#include "matrix/eval/layout.h"

#include <algorithm>
#include <set>

#include "eval/json_reading.h"
#include "eval/sound_scenarios.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"

namespace matrix::eval {

namespace fs = std::filesystem;

namespace {

std::set<std::string> folders_in(const fs::path& path) {
    std::set<std::string> names;
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(path, missing)) {
        if (entry.is_directory()) {
            names.insert(entry.path().filename().string());
        }
    }
    return names;
}

/// Everything in `found`, or what was asked for.
std::vector<std::string> choose(const std::set<std::string>& found,
                                const std::vector<std::string>& wanted, const std::string& flag,
                                const std::string& place) {
    if (found.empty()) {
        throw UsageError(flag + ": none found; folders of " + place + " name them");
    }
    if (wanted.empty()) {
        return {found.begin(), found.end()};
    }
    std::vector<std::string> faults;
    for (const std::string& name : wanted) {
        if (!found.contains(name)) {
            const auto near = did_you_mean(name, {found.begin(), found.end()});
            faults.push_back(flag + " " + name + ": no folder of " + place + " has this name" +
                             (near ? "; did you mean " + *near + "?" : ""));
        }
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
    const std::set<std::string> sorted(wanted.begin(), wanted.end());
    return {sorted.begin(), sorted.end()};
}

Scenario read_scenario(const Json& entry, const std::string& id, const std::string& where) {
    Scenario scenario{id, text_of(entry, "video_text_prompt", where), {}};
    for (const Json& object : array_of(entry, "objects", where)) {
        scenario.entities.push_back(
            {text_of(object, "class", where), text_of(object, "appearance", where)});
    }
    return scenario;
}

}  // namespace

Selection select(const Layout& layout, const Selection& wanted, bool need_models) {
    if (!fs::is_directory(layout.root)) {
        throw UsageError("--root " + layout.root.string() + ": no such directory");
    }
    const fs::path evidence[] = {layout.root / "OUTPUTS", layout.root / "EVAL_RESULTS",
                                 layout.scores() / "emergence_disappearance_results",
                                 layout.scores() / "question_verification_results"};
    std::set<std::string> models;
    std::set<std::string> types = folders_in(layout.root / "EVAL_DATA");
    for (const fs::path& folder : evidence) {
        for (const std::string& model : folders_in(folder)) {
            models.insert(model);
            types.merge(folders_in(folder / model));
        }
    }
    Selection selection;
    if (need_models) {
        selection.models = choose(models, wanted.models, "--model",
                                  layout.root.string() + "/OUTPUTS or /EVAL_RESULTS");
    }
    selection.data_types =
        choose(types, wanted.data_types, "--data-type", layout.root.string() + "/EVAL_DATA");
    return selection;
}

std::string video_id(std::size_t index) {
    const std::string digits = std::to_string(index);
    return digits.size() < 3 ? std::string(3 - digits.size(), '0') + digits : digits;
}

std::vector<Scenario> read_scenarios(const Layout& layout, const std::string& type) {
    std::vector<LeftOut> faults;
    std::vector<Scenario> scenarios = read_sound_scenarios(layout, type, "", faults);
    if (!faults.empty()) {
        throw RunError(faults.front().reason);
    }
    return scenarios;
}

std::vector<Scenario> read_sound_scenarios(const Layout& layout, const std::string& type,
                                           const std::string& model, std::vector<LeftOut>& faults) {
    const fs::path path = layout.data(type) / "meta.json";
    const Json entries = read_json(path);
    std::vector<Scenario> scenarios;
    std::size_t index = 0;
    for (const Json& entry : expect_array(entries, path.string())) {
        const std::string id = video_id(index++);
        try {
            scenarios.push_back(read_scenario(entry, id, path.string() + ": entry " + id));
        } catch (const RunError& error) {
            faults.push_back({model, type, id, error.what()});
        }
    }
    return scenarios;
}

std::string LeftOut::line() const {
    std::string place;
    for (const std::string& part : {model, data_type, video}) {
        place += (place.empty() || part.empty() ? "" : "/") + part;
    }
    return place + ": " + reason;
}

}  // namespace matrix::eval
