#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "matrix/core/system_error.h"
#include "matrix/log/log.h"
#include "train/checkpoint_state.h"

namespace matrix::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";

/// The step of a checkpoint directory's name, or nothing for other names.
std::optional<std::int64_t> step_of(const fs::path& directory) {
    const std::string name = directory.filename().string();
    std::int64_t step = 0;
    const char* begin = name.data() + std::min(name.size(), kPrefix.size());
    const char* end = name.data() + name.size();
    if (name.rfind(kPrefix, 0) != 0 || begin == end) {
        return std::nullopt;
    }
    const auto [stop, fault] = std::from_chars(begin, end, step);
    return fault == std::errc() && stop == end ? std::optional(step) : std::nullopt;
}

/// Whether a name is that of a checkpoint still being written (core/files.h), by a process that may
/// be gone.
bool is_temporary(const fs::path& directory) {
    const std::string name = directory.filename().string();
    const std::size_t end = name.find(".tmp.");
    return end != std::string::npos &&
           step_of(directory.parent_path() / name.substr(0, end)).has_value();
}

/// A directory that is being deleted, or was when its process ended, has no state any more.
bool has_state(const fs::path& directory) {
    std::error_code fault;
    return fs::exists(directory / "state.json", fault);
}

/// Complete checkpoints, oldest first.
std::vector<std::pair<std::int64_t, fs::path>> all_checkpoints(const fs::path& run) {
    std::vector<std::pair<std::int64_t, fs::path>> found;
    std::error_code fault;
    for (const auto& entry : fs::directory_iterator(run / "checkpoints", fault)) {
        const auto step = step_of(entry.path());
        if (step && has_state(entry.path())) {
            found.emplace_back(*step, entry.path());
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

void remove_checkpoint(const fs::path& directory) {
    // Without its state a half-deleted directory is no checkpoint.
    std::error_code ignored;
    fs::remove(directory / "state.json", ignored);
    fs::remove_all(directory, ignored);
}

std::optional<double> score_of(const fs::path& directory, const std::string& metric) {
    try {
        const TrainState state = checkpoint_state(directory);
        return state.score_metric == metric ? state.score : std::nullopt;
    } catch (const RunError&) {
        return std::nullopt;  // of a damaged checkpoint nothing is best
    }
}

fs::path best_checkpoint(const std::vector<std::pair<std::int64_t, fs::path>>& checkpoints,
                         const BestRule& rule) {
    fs::path best;
    std::optional<double> best_score;
    for (const auto& [step, directory] : checkpoints) {
        const std::optional<double> score = score_of(directory, rule.metric);
        if (score &&
            (!best_score || (rule.lowest ? *score <= *best_score : *score >= *best_score))) {
            best = directory;
            best_score = score;
        }
    }
    return best;
}

}  // namespace

fs::path checkpoint_directory(const fs::path& run, std::int64_t step) {
    char name[32];
    std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
    return run / "checkpoints" / name;
}

bool has_checkpoints(const fs::path& run) {
    return !all_checkpoints(run).empty();
}

std::optional<fs::path> last_checkpoint(const fs::path& run) {
    const auto found = all_checkpoints(run);
    std::vector<std::string> damaged;
    for (auto checkpoint = found.rbegin(); checkpoint != found.rend(); ++checkpoint) {
        const fs::path& directory = checkpoint->second;
        try {
            (void)read_verified_state(directory);
        } catch (const OtherVersion&) {
            throw;
        } catch (const SystemError& error) {
            if (error.reason() != ENOENT) {
                throw;  // it may be sound, and a run from an earlier one deletes it
            }
            damaged.emplace_back(error.what());
            continue;
        } catch (const RunError& error) {
            damaged.emplace_back(error.what());
            continue;
        }
        for (const std::string& reason : damaged) {
            log::warning("a damaged checkpoint is passed over: " + reason + "; " +
                         directory.string() + " is taken instead");
        }
        return directory;
    }
    if (!damaged.empty()) {
        damaged.insert(damaged.begin(),
                       (run / "checkpoints").string() +
                           ": every checkpoint is damaged; start a new run in another `output`, or "
                           "move them away to start this one over");
        throw RunError(std::move(damaged));
    }
    return std::nullopt;
}

BestRule BestRule::of(const std::string& metric) {
    return {metric, metric.starts_with("loss_")};
}

std::optional<double> checkpoint_score(const nlohmann::json& validation,
                                       const std::string& metric) {
    for (const char* set : {"heldout", "train"}) {
        if (validation.is_object() && validation.contains(set)) {
            const nlohmann::json score = validation[set].value(metric, nlohmann::json());
            return score.is_number() ? std::optional(score.get<double>()) : std::nullopt;
        }
    }
    return std::nullopt;
}

void prune_checkpoints(const fs::path& run, std::int64_t keep,
                       const std::optional<BestRule>& best) {
    const auto found = all_checkpoints(run);
    const fs::path kept = best ? best_checkpoint(found, *best) : fs::path();
    for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < found.size(); ++i) {
        if (found[i].second != kept) {
            remove_checkpoint(found[i].second);
        }
    }
}

std::int64_t discard_checkpoints_after(const fs::path& run, std::int64_t step) {
    std::int64_t discarded = 0;
    std::vector<fs::path> unfinished;
    std::error_code fault;
    for (const auto& entry : fs::directory_iterator(run / "checkpoints", fault)) {
        const bool stateless = step_of(entry.path()) && !has_state(entry.path());
        if (is_temporary(entry.path()) || stateless) {
            unfinished.push_back(entry.path());
        }
    }
    for (const auto& [at, directory] : all_checkpoints(run)) {
        if (at > step) {
            remove_checkpoint(directory);
            ++discarded;
        }
    }
    for (const fs::path& directory : unfinished) {
        fs::remove_all(directory, fault);
    }
    return discarded;
}

}  // namespace matrix::train
