#include "eval/question_files.h"

#include "matrix/core/error.h"

namespace matrix::eval {

std::optional<std::vector<KeyInteraction>> read_question_file(const Layout& layout,
                                                              const std::string& type,
                                                              const Scenario& scenario) {
    const std::filesystem::path path = layout.questions(type, scenario.id);
    if (!std::filesystem::exists(path)) {
        return std::nullopt;
    }
    const Json file = read_json(path);
    if (file.is_object() &&
        (file.contains("error") || array_of(file, "items", path.string()).empty())) {
        return std::nullopt;
    }
    const std::string made_for = text_of(file, "video_id", path.string());
    if (made_for != scenario.id) {
        throw RunError(path.string() + ": its `video_id` is " + made_for);
    }
    if (text_of(file, "prompt", path.string()) != scenario.prompt) {
        throw RunError(path.string() +
                       ": made for another prompt than meta.json has; remove it to ask anew");
    }
    if (!is_of_objects(file, scenario)) {
        throw RunError(path.string() +
                       ": made for other objects than meta.json has; remove it to ask anew");
    }
    try {
        return read_questions(file);
    } catch (const RunError& error) {
        throw RunError(path.string() + ": " + error.what());
    }
}

EntityFields entity_fields(const Scenario& scenario) {
    if (scenario.entities.size() > kColorNames.size()) {
        throw RunError(std::to_string(scenario.entities.size()) +
                       " objects, and the protocol has colours for six");
    }
    EntityFields fields;
    for (std::size_t i = 0; i < scenario.entities.size(); ++i) {
        fields.entity.push_back(scenario.entities[i].name);
        fields.appearance.push_back(scenario.entities[i].appearance);
        fields.colors.emplace_back(kColorNames[i]);
    }
    return fields;
}

Json described(const Scenario& scenario) {
    const EntityFields fields = entity_fields(scenario);
    return {{"video_id", scenario.id},
            {"prompt", scenario.prompt},
            {"entity", fields.entity},
            {"appearance", fields.appearance},
            {"colors", fields.colors}};
}

bool is_of_objects(const Json& record, const Scenario& scenario) {
    Json names = Json::array();
    Json appearances = Json::array();
    for (const Entity& entity : scenario.entities) {
        names.push_back(entity.name);
        appearances.push_back(entity.appearance);
    }
    return !record.is_object() || (record.value("entity", names) == names &&
                                   record.value("appearance", appearances) == appearances);
}

}  // namespace matrix::eval
