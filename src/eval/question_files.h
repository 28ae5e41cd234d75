#pragma once

#include <optional>
#include <vector>

#include "eval/replies.h"
#include "matrix/eval/layout.h"

namespace matrix::eval {

/// The questions about a video; nothing where there is no file, or one that says that making them
/// failed (`error`, or no items). RunError where the file belongs to another video, prompt or
/// objects, or an interaction has not ten questions.
[[nodiscard]] std::optional<std::vector<KeyInteraction>> read_question_file(
    const Layout& layout, const std::string& type, const Scenario& scenario);

/// Names, appearances and colours of a scenario's entities, index by index, in the fields of the
/// published files; RunError for more entities than colours.
struct EntityFields {
    std::vector<std::string> entity;
    std::vector<std::string> appearance;
    std::vector<std::string> colors;
};
[[nodiscard]] EntityFields entity_fields(const Scenario& scenario);

/// video_id, prompt, entity, appearance and colors: what the published files say of a scenario.
[[nodiscard]] Json described(const Scenario& scenario);

/// Are `entity` and `appearance` of a file or an entry, where it has them, the scenario's?
[[nodiscard]] bool is_of_objects(const Json& record, const Scenario& scenario);

}  // namespace matrix::eval
