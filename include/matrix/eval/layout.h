#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

// Where InterGenEval's files are (the published layout), and what every step reads first.

namespace matrix::eval {

/// An instance by its place in the scenario: object 1 has the first colour.
inline constexpr std::array<std::string_view, 6> kColorNames = {"red",    "green",   "blue",
                                                                "yellow", "magenta", "cyan"};

struct Entity {
    std::string name;  ///< class, one noun
    std::string appearance;
};

/// One entry of EVAL_DATA/<data type>/meta.json; `id` is its zero-based index in three digits.
struct Scenario {
    std::string id;
    std::string prompt;
    std::vector<Entity> entities;
};

/// Paths below the data's root; nothing is looked at.
struct Layout {
    using Path = std::filesystem::path;
    Path root;

    [[nodiscard]] Path data(const std::string& type) const { return root / "EVAL_DATA" / type; }
    [[nodiscard]] Path questions(const std::string& type, const std::string& id) const {
        return data(type) / "questions" / (id + ".json");
    }
    [[nodiscard]] Path outputs(const std::string& model, const std::string& type) const {
        return root / "OUTPUTS" / model / type;
    }
    [[nodiscard]] Path output(const std::string& model, const std::string& type,
                              const std::string& id) const {
        return outputs(model, type) / (id + ".mp4");
    }
    [[nodiscard]] Path results(const std::string& model, const std::string& type) const {
        return root / "EVAL_RESULTS" / model / type;
    }
    [[nodiscard]] Path overlay(const std::string& model, const std::string& type,
                               const std::string& id) const {
        return results(model, type) / "track_vis" / (id + ".mp4");
    }
    [[nodiscard]] Path scores() const { return root / "SCORE_RESULTS"; }
    [[nodiscard]] Path emergence(const std::string& model, const std::string& type) const {
        return scores() / "emergence_disappearance_results" / model / type /
               "_emergence_disappearance.json";
    }
    [[nodiscard]] Path answers(const std::string& model, const std::string& type) const {
        return scores() / "question_verification_results" / model / type /
               "question_verification.json";
    }
    [[nodiscard]] Path video_scores(const std::string& model, const std::string& type) const {
        return answers(model, type).parent_path() / "video_scores.json";
    }
    /// Every request to a vision-language model, its pictures and its reply.
    [[nodiscard]] Path cache() const { return root / "VLM_CACHE"; }
};

struct Selection {
    std::vector<std::string> models;
    std::vector<std::string> data_types;
};

/// What was asked for, or all that the layout's folders name where a list is empty; sorted.
/// UsageError for a root that is not there, a name that no folder has, or nothing to evaluate
/// (models are not asked for where `need_models` is false).
[[nodiscard]] Selection select(const Layout& layout, const Selection& wanted, bool need_models);

/// Three digits, more from 1000 on.
[[nodiscard]] std::string video_id(std::size_t index);

/// RunError naming file, entry and field.
[[nodiscard]] std::vector<Scenario> read_scenarios(const Layout& layout, const std::string& type);

/// What a step could not do: a video, or (with empty fields) all videos of a model or data type.
struct LeftOut {
    std::string model;
    std::string data_type;
    std::string video;
    std::string reason;

    /// "model/easy/003: reason"
    [[nodiscard]] std::string line() const;
};

/// What became of a step.
struct StepResult {
    std::string step;
    std::size_t done = 0;
    std::size_t kept = 0;  ///< done before and still valid
    std::vector<LeftOut> left_out;
};

}  // namespace matrix::eval
