#include "lora/lora_header.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "lora/name_pattern.h"
#include "matrix/core/error.h"
#include "matrix/core/fields.h"

namespace matrix::lora {
namespace {

using nlohmann::ordered_json;

/// Values of the entry, with messages that start with file and name.
class Reader {
public:
    /// `prefix` stands before each name: "transformer." in a header.
    Reader(const ordered_json& entry, std::string prefix, std::string where)
        : entry_(entry), prefix_(std::move(prefix)), where_(std::move(where)) {}

    /// Null if the entry does not have it; peft takes a null for that, too.
    [[nodiscard]] const ordered_json* find(const std::string& name) const {
        const auto found = entry_.find(prefix_ + name);
        return found == entry_.end() || found->is_null() ? nullptr : &*found;
    }
    [[nodiscard]] bool boolean(const std::string& name) const {
        const ordered_json* value = find(name);
        if (value != nullptr && !value->is_boolean()) {
            refuse(name, "expected true or false");
        }
        return value != nullptr && value->get<bool>();
    }
    [[nodiscard]] std::int64_t rank(const ordered_json& value, const std::string& name) const {
        if (!value.is_number_integer() || value < 1 || value > INT64_MAX) {
            refuse(name, "expected an integer of 1 or more");
        }
        return value.get<std::int64_t>();
    }
    [[nodiscard]] double alpha(const ordered_json& value, const std::string& name) const {
        if (!value.is_number() || !std::isfinite(value.get<double>())) {
            refuse(name, "expected a finite number");
        }
        return value.get<double>();
    }
    template <typename T, typename Convert>
    [[nodiscard]] std::vector<std::pair<std::string, T>> pattern(const std::string& name,
                                                                 Convert convert) const {
        std::vector<std::pair<std::string, T>> patterns;
        const ordered_json* object = find(name);
        if (object == nullptr) {
            return patterns;
        }
        if (!object->is_object()) {
            refuse(name, "expected an object");
        }
        for (const auto& [key, value] : object->items()) {
            check_name_pattern(key, where_ + ": " + prefix_ + name);
            patterns.emplace_back(key, convert(value, name + "." + key));
        }
        return patterns;
    }
    [[noreturn]] void refuse(const std::string& name, const std::string& fault) const {
        throw RunError(where_ + ": " + prefix_ + name + ": " + fault);
    }

private:
    const ordered_json& entry_;
    std::string prefix_;
    std::string where_;
};

template <typename T>
T first_match(const std::vector<std::pair<std::string, T>>& patterns, const std::string& linear,
              T otherwise) {
    for (const auto& [pattern, value] : patterns) {
        if (matches_name_end(pattern, linear)) {
            return value;
        }
    }
    return otherwise;
}

/// A JSON object in the text's own order, in which the first pattern counts.
ordered_json parse_object(const std::string& text, const std::string& where) {
    if (!parse_json(text, where).is_object()) {
        throw RunError(where + ": expected a JSON object");
    }
    return ordered_json::parse(text);  // once more, checked as it is by now
}

LoraHeader read_header(const Reader& reader) {
    const auto rank = [&](const ordered_json& v, const std::string& n) {
        return reader.rank(v, n);
    };
    const auto alpha = [&](const ordered_json& v, const std::string& n) {
        return reader.alpha(v, n);
    };
    LoraHeader header;
    if (const ordered_json* value = reader.find("r")) {
        header.rank = rank(*value, "r");
    }
    if (const ordered_json* value = reader.find("lora_alpha")) {
        header.alpha = alpha(*value, "lora_alpha");
    }
    header.rslora = reader.boolean("use_rslora");
    header.rank_pattern = reader.pattern<std::int64_t>("rank_pattern", rank);
    header.alpha_pattern = reader.pattern<double>("alpha_pattern", alpha);
    if (reader.boolean("use_dora")) {
        reader.refuse("use_dora", "DoRA adapters are not supported");
    }
    // These take their start out of the base weight, which peft then changes on loading too.
    if (const ordered_json* init = reader.find("init_lora_weights");
        init != nullptr && init->is_string()) {
        const auto name = init->get<std::string>();
        for (const char* method : {"pissa", "olora", "corda", "loftq"}) {
            if (name.starts_with(method)) {
                reader.refuse("init_lora_weights", "\"" + name +
                                                       "\" adapters change the base weights; "
                                                       "convert it to a plain LoRA with peft");
            }
        }
    }
    return header;
}

}  // namespace

std::int64_t LoraHeader::rank_of(const std::string& linear) const {
    return first_match(rank_pattern, linear, rank);
}

double LoraHeader::scale_of(const std::string& linear) const {
    const auto r = static_cast<double>(rank_of(linear));
    return first_match(alpha_pattern, linear, alpha) / (rslora ? std::sqrt(r) : r);
}

std::optional<LoraHeader> read_lora_header(const tensor_io::Metadata& metadata,
                                           const std::string& where) {
    const auto found = metadata.find(kHeaderEntry);
    if (found == metadata.end() || found->second.empty()) {
        return std::nullopt;
    }
    const std::string entry_where = where + ": " + kHeaderEntry;
    const ordered_json entry = parse_object(found->second, entry_where);
    return read_header(Reader(entry, "transformer.", entry_where));
}

LoraHeader read_peft_config(const std::string& text, const std::string& where) {
    const ordered_json config = parse_object(text, where);
    const Reader reader(config, "", where);
    for (const auto& [name, wanted] : {std::pair("peft_type", "LORA"), std::pair("bias", "none")}) {
        const ordered_json* value = reader.find(name);
        if (value != nullptr && *value != wanted) {
            reader.refuse(
                name, value->dump() + " is not supported, only \"" + std::string(wanted) + "\"");
        }
    }
    return read_header(reader);
}

std::string peft_config_text(std::int64_t rank, const std::vector<std::string>& linears,
                             const std::string& base) {
    const ordered_json config = {{"peft_type", "LORA"},
                                 {"auto_mapping", nullptr},
                                 {"base_model_name_or_path", base},
                                 {"bias", "none"},
                                 {"fan_in_fan_out", false},
                                 {"inference_mode", true},
                                 {"init_lora_weights", true},
                                 {"lora_alpha", rank},
                                 {"lora_dropout", 0.0},
                                 {"modules_to_save", nullptr},
                                 {"r", rank},
                                 {"target_modules", linears},
                                 {"task_type", nullptr}};
    return config.dump(2) + "\n";
}

std::string lora_header_text(std::int64_t rank, const std::vector<std::string>& linears) {
    const ordered_json entry = {{"transformer.r", rank},
                                {"transformer.lora_alpha", rank},
                                {"transformer.target_modules", linears}};
    return entry.dump();
}

}  // namespace matrix::lora
