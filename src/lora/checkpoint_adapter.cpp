#include "lora/checkpoint_adapter.h"

#include <ATen/ATen.h>

#include <charconv>
#include <cmath>

#include "lora/lora_file.h"
#include "lora/names.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"

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

void read_projection(const SafetensorsFile& file, const std::string& weight,
                     const std::string& bias, Adapter& adapter) {
    const auto refuse = [&](const std::string& key, const std::string& fault) {
        throw RunError(file.path().string() + ": " + key + ": " + fault);
    };
    if (!file.contains(weight)) {
        if (file.contains(bias)) {
            refuse(bias, "is there without " + weight);
        }
        return;
    }
    const std::vector<std::int64_t> shape = file.shape(weight);
    if (shape.size() != 2 && shape.size() != 4) {
        refuse(weight, "shape " + shape_text(shape) + " is neither a linear's nor a convolution's");
    }
    if (file.contains(bias) && file.shape(bias) != std::vector<std::int64_t>{shape[0]}) {
        refuse(bias,
               "shape " + shape_text(file.shape(bias)) + ", expected " + shape_text({shape[0]}));
    }
    adapter.projection_weight = read_values(file, weight);
    adapter.projection_bias = file.contains(bias) ? read_values(file, bias) : at::Tensor();
}

Adapter read_checkpoint_adapter(const SafetensorsFile& file) {
    Adapter adapter;
    adapter.info = read_info(file);
    const std::string weight = weight_key(kProjection), bias = bias_key(kProjection);
    adapter.deltas = read_pairs(file, [&](const std::string& key) {
        return key.starts_with("heads.") || key == weight || key == bias;
    });
    read_projection(file, weight, bias, adapter);
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
