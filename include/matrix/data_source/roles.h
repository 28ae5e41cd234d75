#pragma once

#include "matrix/data_source/manifest.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

// Who does what to whom, guessed from an English caption. A guess carries `proposed` until a person
// has looked at it.

namespace matrix::data_source {

/// The interactions that a caption with `<idN>` markers in front of its nouns tells by rule. A
/// marker's phrase is the noun phrase behind it; a verb is sought between two markers (with its
/// auxiliaries, and a particle or preposition that belongs to it), or behind the last one of a
/// clause, and then has no object. "and" joins subjects, objects and verbs; "is held by" turns the
/// roles round. `start` stands beside a phrase that occurs more than once. IDs above 5 take no
/// part.
[[nodiscard]] std::vector<Interaction> propose_roles(std::string_view prompt);

/// `prompt` with `<idN> ` in front of each instance's class name, where the name occurs as often as
/// there are instances of it (the first is the lowest ID). A prompt that has markers is returned as
/// it is.
[[nodiscard]] std::string mark_instances(std::string_view prompt,
                                         const std::map<std::int64_t, std::string>& labels);

/// Fills `interactions` of a metadata row that has none with what can be proposed for the IDs that
/// have masks; how many. A row with interactions is left alone, whoever wrote them. The prompt
/// gains markers where they were needed.
std::size_t propose_into(nlohmann::json& row, const std::set<std::int64_t>& ids,
                         const std::map<std::int64_t, std::string>& labels);

}  // namespace matrix::data_source
