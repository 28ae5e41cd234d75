#pragma once

#include "matrix/data_source/manifest.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace matrix::data_source {

/// The field `interactions` of a row: a list of {"subject": {"phrase", "id"}, "verb": {"phrase"},
/// "object": {"phrase", "id"}}, `start` beside any phrase. Faults ("interactions[0].subject.id:
/// ...") are appended, without the row.
[[nodiscard]] std::vector<Interaction> read_interactions(const nlohmann::json& json,
                                                         std::vector<std::string>& faults);

/// The same list, to be read again.
[[nodiscard]] nlohmann::json write_interactions(const std::vector<Interaction>& interactions);

}  // namespace matrix::data_source
