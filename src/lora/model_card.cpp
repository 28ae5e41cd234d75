#include "matrix/lora/model_card.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "lora/card_loading.h"
#include "lora/names.h"
#include "matrix/core/fields.h"
#include "matrix/lora/base_model.h"

namespace matrix::lora {
namespace {

using nlohmann::json;

/// One number, word or list as a reader writes it.
std::string text_of(const json& value) {
    if (value.is_string()) {
        return value.get<std::string>();
    }
    if (value.is_array()) {
        std::string text;
        for (const json& item : value) {
            text += (text.empty() ? "" : ", ") + text_of(item);
        }
        return text;
    }
    return value.dump();
}

/// The run's config by dotted path; what it does not have is empty.
class Config {
public:
    explicit Config(const std::string& text)
        : json_(text.empty() ? json::object() : parse_json(text, "the run's configuration")) {}

    [[nodiscard]] bool known() const { return !json_.empty(); }
    [[nodiscard]] std::string text(const char* pointer) const {
        const json* value = find(pointer);
        return value == nullptr ? "" : text_of(*value);
    }
    [[nodiscard]] bool has(const char* pointer) const { return find(pointer) != nullptr; }

private:
    [[nodiscard]] const json* find(const char* pointer) const {
        const json::json_pointer path(pointer);
        const json* value = json_.contains(path) ? &json_[path] : nullptr;
        return value == nullptr || value->is_null() ? nullptr : value;
    }

    json json_;
};

/// The last name of a path, fit for one line of Markdown.
std::string plain_name(const std::string& path) {
    const std::filesystem::path whole(path);
    std::string name =
        (whole.has_filename() ? whole.filename() : whole.parent_path().filename()).string();
    std::replace_if(
        name.begin(), name.end(),
        [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '`' || c == '|'; }, ' ');
    return name;
}

std::string front_matter(const CardFacts& facts) {
    const BaseModel base = find_base_model(facts.info.base);
    const bool merged = facts.format == "merged";
    const std::string task = base.text_to_video ? "text-to-video" : "image-to-video";
    std::string text = "---\n";
    if (!base.hub_name.empty()) {
        text += "base_model: " + base.hub_name + "\n";
        text += std::string("base_model_relation: ") + (merged ? "finetune" : "adapter") + "\n";
    }
    const bool comfyui = facts.format == "kohya" || facts.format == "comfyui";
    text += std::string("library_name: ") +
            (facts.format == "peft" ? "peft"
             : comfyui              ? "comfyui"
                                    : "diffusers") +
            "\n";
    if (!base.licence.empty()) {
        text += "license: " + base.licence + "\n";
    }
    if (!base.licence_name.empty()) {
        text +=
            "license_name: " + base.licence_name + "\nlicense_link: " + base.licence_link + "\n";
    }
    text += "pipeline_tag: " + task + "\ntags:\n- cogvideox\n- " + task + "\n";
    return text + (merged ? "" : "- lora\n") + "- matrix.cpp\n---\n\n";
}

/// "to_k, to_out.0, to_q, to_v of blocks 7, 11, 12".
std::string layers_text(const std::vector<std::string>& linears) {
    std::set<std::int64_t> blocks;
    std::set<std::string> targets, others;
    for (const std::string& linear : linears) {
        const std::string prefix = "transformer_blocks.";
        const std::size_t end = linear.find('.', prefix.size());
        const std::string number = linear.starts_with(prefix) && end != std::string::npos
                                       ? linear.substr(prefix.size(), end - prefix.size())
                                       : "";
        if (number.empty() || number.size() > 6 ||
            number.find_first_not_of("0123456789") != std::string::npos) {
            others.insert(linear);
            continue;
        }
        blocks.insert(std::stoll(number));
        const std::string target = linear.substr(end + 1);
        targets.insert(target.starts_with("attn1.") ? target.substr(6) : target);
    }
    std::string text;
    if (!blocks.empty()) {
        text = text_of(json(targets)) + " of blocks " + text_of(json(blocks));
    }
    for (const std::string& other : others) {
        text += (text.empty() ? "" : "; ") + other;
    }
    return text;
}

void row(std::string& table, const std::string& name, const std::string& value) {
    if (!value.empty()) {
        table += "| " + name + " | " + value + " |\n";
    }
}

std::string projection_text(const CardFacts& facts) {
    const bool lora =
        std::find(facts.linears.begin(), facts.linears.end(), kProjection) != facts.linears.end();
    std::string text = facts.whole_projection ? "trained whole" : lora ? "a LoRA" : "the base's";
    if (facts.info.in_channels > 0) {
        text += ", " + std::to_string(facts.info.in_channels) + " input channels";
        text += facts.info.id_map ? " (with an ID map)" : "";
    }
    return text;
}

std::string term_text(const Config& config, const std::string& term) {
    const std::string path = "/alignment/" + term;
    return config.has(path.c_str()) ? "weight " + config.text((path + "/weight").c_str()) +
                                          " in blocks " + config.text((path + "/blocks").c_str())
                                    : "";
}

std::string training_table(const CardFacts& facts, const Config& config) {
    std::string table = "| | |\n| --- | --- |\n";
    if (!facts.linears.empty()) {
        row(table, "rank", std::to_string(facts.info.rank));
        row(table, "alpha",
            text_of(json(facts.info.trained_alpha.value_or(facts.info.alpha))) +
                (facts.info.rslora ? " (rsLoRA: alpha over the root of the rank)" : ""));
        row(table, "LoRA on", layers_text(facts.linears));
    }
    row(table, "input projection", projection_text(facts));
    if (!config.known()) {
        return table;
    }
    row(table, "losses", "velocity, mean square error");
    row(table, "SGA (attention to words)", term_text(config, "sga"));
    row(table, "SPA (attention along tracks)", term_text(config, "spa"));
    row(table, "optimizer steps",
        facts.steps ? std::to_string(*facts.steps) : config.text("/train/steps"));
    row(table, "learning rate",
        config.text("/optimizer/learning_rate") + ", " + config.text("/schedule/name"));
    row(table, "clips a step",
        config.text("/train/batch_size") + " a process, times " +
            config.text("/train/gradient_accumulation") + " accumulated");
    row(table, "seed", config.text("/train/seed"));
    row(table, "base in", config.text("/model/dtype"));
    row(table, "started from",
        config.has("/lora/init_from") ? "`" + plain_name(config.text("/lora/init_from")) + "`"
                                      : "");
    return table;
}

std::string data_section(const Config& config) {
    if (!config.has("/data/path")) {
        return "";
    }
    std::string table = "| | |\n| --- | --- |\n";
    row(table, "data set", "`" + plain_name(config.text("/data/path")) + "`");
    row(table, "clip",
        config.text("/data/frames") + " frames of " + config.text("/data/width") + " x " +
            config.text("/data/height") + " pixels");
    row(table, "ID map", config.text("/data/id_map"));
    row(table, "left out at random",
        "first frame " + config.text("/data/image_dropout") + ", caption " +
            config.text("/data/caption_dropout") + ", ID map " +
            config.text("/data/id_map_dropout"));
    return "## Data\n\n" + table + "\n";
}

}  // namespace

CardFacts card_facts(const Adapter& adapter) {
    CardFacts facts;
    facts.info = adapter.info;
    for (const auto& [linear, delta] : adapter.deltas) {
        facts.linears.push_back(linear);
    }
    const auto delta = adapter.deltas.find(kProjection);
    const at::Tensor& projection =
        delta == adapter.deltas.end() ? adapter.projection_weight : delta->second.a;
    facts.whole_projection = adapter.projection_weight.defined();
    facts.linear_projection = projection.defined() && projection.dim() == 2;
    return facts;
}

std::string model_card(const CardFacts& facts) {
    const Config config(facts.run_config);
    const BaseModel base = find_base_model(facts.info.base);
    const std::string name = plain_name(base_name(facts.info.base));
    const bool merged = facts.format == "merged";
    std::string text = front_matter(facts);
    text += "# " + (name.empty() ? std::string("CogVideoX") : name) +
            (merged ? ", fine-tuned" : ", LoRA") + "\n\n";
    text += std::string(merged ? "A transformer with its fine-tuning merged in" : "An adapter") +
            (base.text_to_video ? " for text to video" : " for image to video") +
            (name.empty() ? "" : " with `" + name + "`") +
            ", written by "
            "matrix.cpp. ";
    text += base.licence.empty()
                ? "The licence of the base applies to it.\n"
                : "The licence of the base, " +
                      (base.licence_name.empty() ? base.licence : base.licence_name) +
                      ", applies to it.\n";
    text += "\n## What was trained\n\n" + training_table(facts, config) + "\n";
    if (!config.known()) {
        text += "The configuration of the training run is not known.\n\n";
    }
    return text + data_section(config) + loading_section(facts);
}

}  // namespace matrix::lora
