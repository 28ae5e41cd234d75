#pragma once

#include <string>
#include <vector>

namespace matrix::train {

/// What differs between two resolved configurations (JSON texts), one line for each field by its
/// dotted path, in alphabetical order: "train.steps: 1000 before, 2000 now". Numbers are compared
/// by value. Nothing if either text is empty, which means unknown.
[[nodiscard]] std::vector<std::string> config_changes(const std::string& before_json,
                                                      const std::string& now_json);

/// Changes under which a checkpoint's tensors are others, or mean something else, so that a run
/// cannot go on with them; one line each, with the remedy. docs/run-directory.md has the list.
[[nodiscard]] std::vector<std::string> unresumable_changes(const std::string& before_json,
                                                           const std::string& now_json);

}  // namespace matrix::train
