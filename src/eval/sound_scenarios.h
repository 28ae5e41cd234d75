#pragma once

#include <string>
#include <vector>

#include "matrix/eval/layout.h"

namespace matrix::eval {

/// The scenarios of a meta.json without those whose entry is malformed, which go to `faults` as
/// videos of `model` (empty: of all). RunError for a file that is no array.
[[nodiscard]] std::vector<Scenario> read_sound_scenarios(const Layout& layout,
                                                         const std::string& type,
                                                         const std::string& model,
                                                         std::vector<LeftOut>& faults);

}  // namespace matrix::eval
