#include "cli/bench/shape.h"

#include <array>
#include <charconv>
#include <set>
#include <sstream>

#include "cli/init/model_maker.h"
#include "matrix/core/error.h"

namespace matrix::cli::bench {
namespace {

constexpr std::int64_t kLatentChannels = 16;
constexpr std::int64_t kMaxDim = 1 << 16;

struct Part {
    const char* name;
    std::int64_t Shape::*value;
    std::int64_t minimum, maximum, multiple;
    bool required;
};

constexpr std::array<Part, 8> kParts = {{
    {"layers", &Shape::layers, 1, 1024, 1, true},
    {"heads", &Shape::heads, 1, 1024, 1, true},
    {"head_dim", &Shape::head_dim, 16, 1024, 16, true},
    {"frames", &Shape::frames, 1, 4096, 1, true},
    {"height", &Shape::height, 2, 4096, 2, true},
    {"width", &Shape::width, 2, 4096, 2, true},
    {"text", &Shape::text, 1, 4096, 1, false},
    {"channels", &Shape::channels, kLatentChannels, 3 * kLatentChannels, kLatentChannels, false},
}};

std::string names() {
    std::string text;
    for (const Part& part : kParts) {
        text += (text.empty() ? "" : ", ") + std::string(part.name);
    }
    return text;
}

const Part& part_of(const std::string& name) {
    for (const Part& part : kParts) {
        if (part.name == name) {
            return part;
        }
    }
    throw UsageError("--shape: \"" + name + "\" is none of " + names());
}

std::int64_t parse_value(const Part& part, const std::string& text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < part.minimum ||
        value > part.maximum || value % part.multiple != 0) {
        throw UsageError(
            "--shape: " + std::string(part.name) + "=" + text + " is not a whole number" +
            (part.multiple > 1 ? " divisible by " + std::to_string(part.multiple) : "") + " from " +
            std::to_string(part.minimum) + " to " + std::to_string(part.maximum));
    }
    return value;
}

}  // namespace

Shape parse_shape(const std::string& text) {
    Shape shape;
    std::set<std::string> given;
    std::istringstream list(text);
    for (std::string item; std::getline(list, item, ',');) {
        const std::size_t equals = item.find('=');
        const Part& part = part_of(item.substr(0, equals));
        if (!given.insert(part.name).second) {
            throw UsageError("--shape: " + std::string(part.name) + " is given twice");
        }
        shape.*part.value =
            parse_value(part, equals == std::string::npos ? "" : item.substr(equals + 1));
    }
    for (const Part& part : kParts) {
        if (part.required && given.count(part.name) == 0) {
            throw UsageError("--shape: " + std::string(part.name) + " is missing");
        }
    }
    if (shape.dim() > kMaxDim) {
        throw UsageError("--shape: heads times head_dim is more than " + std::to_string(kMaxDim));
    }
    return shape;
}

Shape preset_shape(const std::string& preset) {
    const nlohmann::json config = model_files(preset).transformer;
    const auto integer = [&](const char* name) { return config.at(name).get<std::int64_t>(); };
    Shape shape;
    shape.layers = integer("num_layers");
    shape.heads = integer("num_attention_heads");
    shape.head_dim = integer("attention_head_dim");
    shape.frames = (integer("sample_frames") - 1) / integer("temporal_compression_ratio") + 1;
    shape.height = integer("sample_height");
    shape.width = integer("sample_width");
    shape.text = integer("max_text_seq_length");
    shape.channels = integer("in_channels");
    shape.text_width = integer("text_embed_dim");
    shape.time_width = integer("time_embed_dim");
    return shape;
}

models::CogVideoXConfig Shape::config() const {
    models::CogVideoXConfig config;
    config.num_layers = layers;
    config.num_attention_heads = heads;
    config.attention_head_dim = head_dim;
    config.in_channels = channels;
    config.sample_frames = (frames - 1) * config.temporal_compression_ratio + 1;
    config.sample_height = height;
    config.sample_width = width;
    config.max_text_seq_length = text;
    config.text_embed_dim = text_width;
    config.time_embed_dim = time_width;
    config.use_rotary_positional_embeddings = true;
    config.use_learned_positional_embeddings = true;
    return config;
}

nlohmann::json Shape::config_json() const {
    const models::CogVideoXConfig c = config();
    nlohmann::json json = model_files("5b-i2v").transformer;
    json.update({{"num_layers", c.num_layers},
                 {"num_attention_heads", c.num_attention_heads},
                 {"attention_head_dim", c.attention_head_dim},
                 {"in_channels", c.in_channels},
                 {"sample_frames", c.sample_frames},
                 {"sample_height", c.sample_height},
                 {"sample_width", c.sample_width},
                 {"max_text_seq_length", c.max_text_seq_length},
                 {"text_embed_dim", c.text_embed_dim},
                 {"time_embed_dim", c.time_embed_dim}});
    return json;
}

nlohmann::json Shape::json() const {
    nlohmann::json json;
    for (const Part& part : kParts) {
        json[part.name] = this->*part.value;
    }
    json["tokens"] = tokens();
    return json;
}

}  // namespace matrix::cli::bench
