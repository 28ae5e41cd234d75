#include "lora/adapter_files.h"

#include <ATen/ATen.h>

#include "lora/dialect.h"
#include "lora/lora_header.h"
#include "lora/names.h"
#include "matrix/core/error.h"
#include "matrix/lora/base_model.h"

namespace matrix::lora {
namespace {

const tensor_io::Metadata kFormat = {{"format", "pt"}};

/// Where a format keeps its LoRA, and in which dialect.
struct Layout {
    Dialect dialect;
    const char* file;
    bool alpha;        ///< a tensor for each linear's alpha
    bool convolution;  ///< its loaders can add a convolution's delta
    const char* loaders;
};

Layout layout_of(Format format) {
    switch (format) {
        case Format::kDiffusers:
            return {Dialect::kDiffusers, kStockFile, false, true, "diffusers"};
        case Format::kPeft:
            return {Dialect::kPeft, kPeftFile, false, true, "peft"};
        case Format::kKohya:
            return {Dialect::kKohya, kKohyaFile, true, false, "kohya loaders"};
        case Format::kComfyui:
            return {Dialect::kComfyui, kComfyuiFile, true, true, "ComfyUI"};
    }
    TORCH_CHECK(false, "a format without a layout");
}

/// Columns of a projection's tensor (its dimension 1) that a model without the ID map has, of all:
/// two thirds, latents and image latents of latents, image latents and ID map.
std::int64_t stock_columns(const AdapterInfo& info, const at::Tensor& tensor) {
    return info.id_map && tensor.size(1) % 3 == 0 ? tensor.size(1) / 3 * 2 : tensor.size(1);
}

void add_alpha(const Layout& layout, const std::string& linear, std::int64_t rank,
               tensor_io::TensorMap& tensors) {
    if (layout.alpha) {
        tensors[dialect_key(layout.dialect, linear, Role::kAlpha)] =
            at::full({}, static_cast<double>(rank), at::kFloat);
    }
}

/// The delta of the projection: in the LoRA file as far as a model without ID map can use it, or
/// beside it.
void add_projection_lora(const AdapterInfo& info, const nn::LowRankDelta& delta,
                         const Layout& layout, AdapterFiles& result) {
    if (delta.a.dim() > 2 && !layout.convolution) {
        result.files[kProjectionLoraFile] = {
            {{a_key(kProjection), delta.a}, {b_key(kProjection), delta.b}}, kFormat};
        result.notes.push_back(std::string("the LoRA of the input projection is a convolution's, "
                                           "which ") +
                               layout.loaders + " cannot add: it is in " + kProjectionLoraFile +
                               ", and without it the model is not the one that was trained");
        return;
    }
    tensor_io::TensorMap& lora = result.files[layout.file].tensors;
    const std::int64_t columns = stock_columns(info, delta.a);
    lora[dialect_key(layout.dialect, kProjection, Role::kA)] = delta.a.narrow(1, 0, columns);
    lora[dialect_key(layout.dialect, kProjection, Role::kB)] = delta.b;
    add_alpha(layout, kProjection, delta.a.size(0), lora);
    if (columns < delta.a.size(1)) {
        result.files[kIdMapFile] = {
            {{a_key(kProjection), delta.a.narrow(1, columns, delta.a.size(1) - columns)}}, kFormat};
        result.notes.push_back(
            std::string("the ID map's channels of the input projection are in ") + kIdMapFile +
            ", which " + layout.loaders + " does not read: without it the model takes no ID map");
    }
}

/// The whole projection, in its sidecar; and in ComfyUI's file, which can set weights of the
/// model's own shape.
void add_projection(const Adapter& adapter, const Layout& layout, AdapterFiles& result) {
    tensor_io::TensorMap& sidecar = result.files[kProjectionFile].tensors;
    sidecar[std::string(kProjection) + ".weight"] = adapter.projection_weight;
    if (adapter.projection_bias.defined()) {
        sidecar[std::string(kProjection) + ".bias"] = adapter.projection_bias;
    }
    result.files[kProjectionFile].metadata = kFormat;
    if (layout.dialect != Dialect::kComfyui) {
        result.notes.push_back(std::string("the trained input projection is in ") +
                               kProjectionFile + ", which " + layout.loaders +
                               " does not read: put it into the model first");
        return;
    }
    if (adapter.deltas.count(kProjection) != 0) {
        throw RunError(
            "adapter: patch_embed.proj is trained whole and as a LoRA, of which a ComfyUI file "
            "holds one; export it as merged");
    }
    const std::int64_t columns = stock_columns(adapter.info, adapter.projection_weight);
    tensor_io::TensorMap& lora = result.files[layout.file].tensors;
    lora[dialect_key(layout.dialect, kProjection, Role::kWeight)] =
        adapter.projection_weight.narrow(1, 0, columns);
    if (adapter.projection_bias.defined()) {
        lora[dialect_key(layout.dialect, kProjection, Role::kBias)] = adapter.projection_bias;
    }
    if (columns < adapter.projection_weight.size(1)) {
        result.notes.push_back(std::string("ComfyUI has no input for an ID map: the file sets the "
                                           "projection's other channels; the whole is in ") +
                               kProjectionFile);
    }
}

}  // namespace

AdapterFiles files_of(const Adapter& folded, Format format) {
    const Layout layout = layout_of(format);
    AdapterFiles result;
    std::vector<std::string> linears;
    for (const auto& [linear, delta] : folded.deltas) {
        if (linear == kProjection) {
            add_projection_lora(folded.info, delta, layout, result);
        } else {
            tensor_io::TensorMap& lora = result.files[layout.file].tensors;
            lora[dialect_key(layout.dialect, linear, Role::kA)] = delta.a;
            lora[dialect_key(layout.dialect, linear, Role::kB)] = delta.b;
            add_alpha(layout, linear, delta.a.size(0), lora);
        }
        linears.push_back(linear);
    }
    if (folded.projection_weight.defined()) {
        add_projection(folded, layout, result);
    }
    if (const auto lora = result.files.find(layout.file); lora != result.files.end()) {
        lora->second.metadata = kFormat;
        if (format == Format::kDiffusers) {
            lora->second.metadata[kHeaderEntry] = lora_header_text(folded.info.rank, linears);
        } else if (format == Format::kPeft) {
            result.texts[kPeftConfigFile] =
                peft_config_text(folded.info.rank, linears, base_name(folded.info.base));
        }
    }
    return result;
}

}  // namespace matrix::lora
