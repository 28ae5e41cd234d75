#include "matrix/data_source/interactions.h"

#include "matrix/core/fields.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace matrix::data_source {
namespace {

using nlohmann::json;

void check_keys(const json& j, const std::vector<std::string>& known, const std::string& path,
                std::vector<std::string>& faults) {
    for (const auto& [key, value] : j.items()) {
        if (std::ranges::find(known, key) == known.end()) {
            const auto near = did_you_mean(key, known);
            faults.push_back(path + "." + key + ": unknown key" +
                             (near ? "; did you mean \"" + *near + "\"?" : ""));
        }
    }
}

Phrase read_phrase(const json& j, bool with_id, const std::string& path,
                   std::vector<std::string>& faults) {
    Phrase phrase;
    if (!j.is_object()) {
        faults.push_back(path + ": must be an object with \"phrase\"" +
                         (with_id ? " and \"id\"" : ""));
        return phrase;
    }
    check_keys(j,
               with_id ? std::vector<std::string>{"phrase", "id", "start"}
                       : std::vector<std::string>{"phrase", "start"},
               path, faults);
    const auto text = j.find("phrase");
    if (text == j.end() || !text->is_string() || text->get_ref<const std::string&>().empty()) {
        faults.push_back(path + ".phrase: must be words of the prompt");
    } else {
        phrase.text = text->get<std::string>();
    }
    if (const auto start = j.find("start"); start != j.end() && !start->is_null()) {
        if (start->is_number_integer() && start->get<std::int64_t>() >= 0) {
            phrase.start = start->get<std::int64_t>();
        } else {
            faults.push_back(path + ".start: must be an offset into the prompt, from 0");
        }
    }
    if (with_id) {
        const auto id = j.find("id");
        if (id == j.end()) {
            faults.push_back(path + ".id: missing; an ID of 1..5, as the mask folders are named");
        } else if (!id->is_number_integer() || id->get<std::int64_t>() < 1 ||
                   id->get<std::int64_t>() > 5) {
            faults.push_back(path + ".id: " + id->dump() + " is not an ID of 1..5");
        } else {
            phrase.id = id->get<std::int64_t>();
        }
    }
    return phrase;
}

}  // namespace

std::vector<Interaction> read_interactions(const json& j, std::vector<std::string>& faults) {
    std::vector<Interaction> interactions;
    if (j.is_null()) {
        return interactions;
    }
    if (!j.is_array()) {
        faults.emplace_back("interactions: must be a list of {\"subject\", \"verb\", \"object\"}");
        return interactions;
    }
    for (std::size_t i = 0; i < j.size(); ++i) {
        const std::string path = "interactions[" + std::to_string(i) + "]";
        const json& entry = j[i];
        if (!entry.is_object()) {
            faults.push_back(path +
                             ": must be an object with \"subject\", \"verb\" and, unless the verb "
                             "is intransitive, \"object\"");
            continue;
        }
        check_keys(entry, {"subject", "verb", "object", "proposed"}, path, faults);
        Interaction interaction;
        for (const char* role : {"subject", "verb"}) {
            if (!entry.contains(role)) {
                faults.push_back(path + "." + role + ": missing");
            }
        }
        if (const auto it = entry.find("subject"); it != entry.end()) {
            interaction.subject = read_phrase(*it, true, path + ".subject", faults);
        }
        if (const auto it = entry.find("verb"); it != entry.end()) {
            interaction.verb = read_phrase(*it, false, path + ".verb", faults);
        }
        if (const auto it = entry.find("object"); it != entry.end() && !it->is_null()) {
            interaction.object = read_phrase(*it, true, path + ".object", faults);
        }
        if (const auto it = entry.find("proposed"); it != entry.end()) {
            if (it->is_boolean()) {
                interaction.proposed = it->get<bool>();
            } else {
                faults.push_back(path + ".proposed: must be true or false");
            }
        }
        interactions.push_back(std::move(interaction));
    }
    return interactions;
}

json write_interactions(const std::vector<Interaction>& interactions) {
    const auto write_phrase = [](const Phrase& phrase) {
        json j = {{"phrase", phrase.text}};
        if (phrase.id != 0) {
            j["id"] = phrase.id;
        }
        if (phrase.start) {
            j["start"] = *phrase.start;
        }
        return j;
    };
    json list = json::array();
    for (const Interaction& interaction : interactions) {
        json entry = {{"subject", write_phrase(interaction.subject)},
                      {"verb", write_phrase(interaction.verb)}};
        if (interaction.object) {
            entry["object"] = write_phrase(*interaction.object);
        }
        if (interaction.proposed) {
            entry["proposed"] = true;
        }
        list.push_back(std::move(entry));
    }
    return list;
}

}  // namespace matrix::data_source
