#include "lora/checkpoint_adapter.h"

#include <ATen/ATen.h>

#include <charconv>
#include <cmath>

#include "lora/lora_file.h"
#include "lora/names.h"
#include "matrix/core/error.h"

namespace matrix::lora {
namespace {

using tensor_io::Metadata;
using tensor_io::SafetensorsFile;

constexpr const char* kFormatVersion = "1";

std::string number_text(double value) {
    char text[32];
    const auto [end, fault] = std::to_chars(text, text + sizeof text, value);
    return {text, end};
}

/// The header's entries, which are all strings.
class InfoReader {
public:
    explicit InfoReader(const SafetensorsFile& file) : file_(file) {}

    [[nodiscard]] const std::string& text(const std::string& name) const {
        const auto found = file_.metadata().find(name);
        if (found == file_.metadata().end()) {
            refuse(name, "is missing");
        }
        return found->second;
    }
    template <typename T>
    [[nodiscard]] T number(const std::string& name) const {
        const std::string& value = text(name);
        T result{};
        const char* end = value.data() + value.size();
        const auto [stop, fault] = std::from_chars(value.data(), end, result);
        if (fault != std::errc() || stop != end || result < T{} ||
            !std::isfinite(static_cast<double>(result))) {
            refuse(name, "is not a number of 0 or more");
        }
        return result;
    }
    [[nodiscard]] bool boolean(const std::string& name) const {
        const std::string& value = text(name);
        if (value != "true" && value != "false") {
            refuse(name, "is neither true nor false");
        }
        return value == "true";
    }
    [[noreturn]] void refuse(const std::string& name, const std::string& fault) const {
        throw RunError(file_.path().string() + ": header entry " + name + " " + fault);
    }

private:
    const SafetensorsFile& file_;
};

AdapterInfo read_info(const SafetensorsFile& file) {
    const InfoReader reader(file);
    if (const std::string& version = reader.text("format_version"); version != kFormatVersion) {
        reader.refuse("format_version",
                      "is not " + std::string(kFormatVersion) + ", the one this program reads");
    }
    AdapterInfo info;
    info.rank = reader.number<std::int64_t>("r");
    info.alpha = reader.number<double>("alpha");
    info.rslora = reader.boolean("rslora");
    info.base = reader.text("base");
    info.in_channels = reader.number<std::int64_t>("in_channels");
    info.id_map = reader.boolean("id_map");
    return info;
}

}  // namespace

void write_checkpoint_adapter(const std::filesystem::path& path,
                              const std::map<std::string, at::Tensor>& trained,
                              const AdapterInfo& info) {
    tensor_io::TensorMap tensors;
    for (const auto& [name, tensor] : trained) {
        tensors[name] = tensor.detach().to(at::kFloat);
    }
    const auto boolean = [](bool value) { return value ? "true" : "false"; };
    tensor_io::write_safetensors(path, tensors,
                                 {{"format_version", kFormatVersion},
                                  {"r", std::to_string(info.rank)},
                                  {"alpha", number_text(info.alpha)},
                                  {"rslora", boolean(info.rslora)},
                                  {"base", info.base},
                                  {"in_channels", std::to_string(info.in_channels)},
                                  {"id_map", boolean(info.id_map)}});
}

bool is_checkpoint_adapter(const SafetensorsFile& file) {
    return file.metadata().count("format_version") != 0;
}

Adapter read_checkpoint_adapter(const SafetensorsFile& file) {
    Adapter adapter;
    adapter.info = read_info(file);
    const std::string weight = weight_key(kProjection), bias = bias_key(kProjection);
    adapter.deltas = read_lora_tensors(file, [&](const std::string& key) {
                         return key.starts_with("heads.") || key == weight || key == bias;
                     }).deltas;
    read_projection(file, weight, bias, adapter.projection_weight, adapter.projection_bias);
    for (auto& [linear, delta] : adapter.deltas) {
        if (delta.a.size(0) != adapter.info.rank) {
            throw RunError(file.path().string() + ": " + a_key(linear) + ": rank " +
                           std::to_string(delta.a.size(0)) +
                           " differs from the header's r = " + std::to_string(adapter.info.rank));
        }
        delta.scale = adapter.info.scale();
    }
    return adapter;
}

}  // namespace matrix::lora
