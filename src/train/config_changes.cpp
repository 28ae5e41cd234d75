#include "matrix/train/config_changes.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "matrix/core/fields.h"

namespace matrix::train {
namespace {

using nlohmann::json;
using Pointer = json::json_pointer;

json parsed(const std::string& text) {
    return parse_json(text, "a run's configuration");
}

std::string line(const std::string& path, const json* before, const json* now) {
    const auto text = [](const json* value) {
        return value == nullptr ? "not there" : value->dump();
    };
    return path + ": " + text(before) + " before, " + text(now) + " now";
}

const json* member(const json& object, const std::string& key) {
    const auto found = object.find(key);
    return found == object.end() ? nullptr : &*found;
}

void compare(const json& before, const json& now, const std::string& path,
             std::vector<std::string>& lines) {
    std::set<std::string> keys;
    for (const json* object : {&before, &now}) {
        for (const auto& [key, value] : object->items()) {
            keys.insert(key);
        }
    }
    for (const std::string& key : keys) {
        const json* old_value = member(before, key);
        const json* new_value = member(now, key);
        const std::string field = path + key;
        if (old_value != nullptr && new_value != nullptr && old_value->is_object() &&
            new_value->is_object()) {
            compare(*old_value, *new_value, field + ".", lines);
        } else if (old_value == nullptr || new_value == nullptr || *old_value != *new_value) {
            lines.push_back(line(field, old_value, new_value));
        }
    }
}

/// A field of both configurations.
struct Pair {
    const json* before;
    const json* now;

    [[nodiscard]] bool known() const { return before != nullptr && now != nullptr; }
    [[nodiscard]] bool differ() const { return known() && *before != *now; }
};

/// Both configurations, and the lines that refuse to go from one to the other.
class Refusals {
public:
    Refusals(const json& before, const json& now) : before_(before), now_(now) {}

    /// "/lora/rank"
    [[nodiscard]] Pair field(const std::string& pointer) const {
        const auto find = [&](const json& config) {
            const Pointer path(pointer);
            return config.contains(path) ? &config[path] : nullptr;
        };
        return {find(before_), find(now_)};
    }
    void refuse(const std::string& pointer, const std::string& reason) {
        const Pair pair = field(pointer);
        std::string path = pointer.substr(1);
        std::replace(path.begin(), path.end(), '/', '.');
        lines_.push_back(line(path, pair.before, pair.now) + "; " + reason +
                         ", so set it back, or start a new run in another `output`");
    }
    void refuse_if_different(const std::string& pointer, const std::string& reason) {
        if (field(pointer).differ()) {
            refuse(pointer, reason);
        }
    }
    /// A list of names whose order says nothing.
    void refuse_if_other_elements(const std::string& pointer, const std::string& reason) {
        const Pair pair = field(pointer);
        if (pair.known() && pair.before->get<std::set<json>>() != pair.now->get<std::set<json>>()) {
            refuse(pointer, reason);
        }
    }
    [[nodiscard]] std::vector<std::string> lines() && { return std::move(lines_); }

private:
    const json& before_;
    const json& now_;
    std::vector<std::string> lines_;
};

bool has_deltas(const json& config) {
    const json lora = config.value("lora", json::object());
    const auto names = [&](const char* key) { return lora.value(key, json::array()).size() > 0; };
    return (names("blocks") && names("targets")) || lora.value("input_projection", "") == "lora";
}

bool has_heads(const json& config) {
    const json alignment = config.value("alignment", json::object());
    return !alignment.value("sga", json()).is_null() || !alignment.value("spa", json()).is_null();
}

}  // namespace

std::vector<std::string> config_changes(const std::string& before_json,
                                        const std::string& now_json) {
    std::vector<std::string> lines;
    if (!before_json.empty() && !now_json.empty()) {
        compare(parsed(before_json), parsed(now_json), "", lines);
    }
    return lines;
}

std::vector<std::string> unresumable_changes(const std::string& before_json,
                                             const std::string& now_json) {
    if (before_json.empty() || now_json.empty()) {
        return {};
    }
    const json before = parsed(before_json), now = parsed(now_json);
    Refusals refusals(before, now);
    refusals.refuse_if_different("/data/id_map", "the input projection has other channels");
    if (has_deltas(before) && has_deltas(now)) {
        refusals.refuse_if_different("/lora/rank", "the low-rank factors have another shape");
        for (const char* field : {"/lora/alpha", "/lora/rslora"}) {
            refusals.refuse_if_different(field, "the low-rank factors have another strength");
        }
    }
    for (const char* field : {"/lora/targets", "/lora/blocks"}) {
        refusals.refuse_if_other_elements(field, "other linears were trained");
    }
    refusals.refuse_if_different("/lora/input_projection", "other tensors of it were trained");
    if (has_heads(before) && has_heads(now)) {
        refusals.refuse_if_different("/alignment/head", "the heads have other tensors");
    }
    for (const char* term : {"/alignment/sga", "/alignment/spa"}) {
        const Pair pair = refusals.field(term);
        if (pair.known() && pair.before->is_null() != pair.now->is_null()) {
            refusals.refuse(term, pair.before->is_null()
                                      ? "its head has no state in the checkpoint"
                                      : "its head and the head's moments would be left over");
        }
    }
    return std::move(refusals).lines();
}

}  // namespace matrix::train
