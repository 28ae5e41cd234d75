#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

#include "lora/checkpoint_adapter.h"
#include "lora/lora_file.h"
#include "lora/lora_header.h"
#include "lora/manifest.h"
#include "lora/names.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"

namespace matrix::lora {
namespace {

namespace fs = std::filesystem;
using tensor_io::SafetensorsFile;

constexpr std::int64_t kIdMapChannels = 48;  // latents, image latents and ID map, 16 each

[[noreturn]] void refuse(const fs::path& path, const std::string& fault) {
    throw RunError(path.string() + ": " + fault);
}

bool takes_no_key(const std::string& /*key*/) {
    return false;
}

/// peft's configuration for a LoRA file: in the header of a diffusers file (or none), in the file
/// beside a file of peft's own.
std::optional<LoraHeader> configuration_of(const SafetensorsFile& file,
                                           const LoraTensors& tensors) {
    if (tensors.dialect == Dialect::kPeft) {
        const fs::path config = file.path().parent_path() / kPeftConfigFile;
        if (!fs::exists(config)) {
            refuse(file.path(), std::string("has peft's keys, whose strength stands in ") +
                                    kPeftConfigFile + "; put it beside the file");
        }
        return read_peft_config(read_text_file(config), config.string());
    }
    return tensors.dialect == Dialect::kDiffusers
               ? read_lora_header(file.metadata(), file.path().string())
               : std::nullopt;
}

/// What a file without a configuration is, of one rank and strength: those of all its deltas if
/// they agree, else the largest rank and none.
void describe(AdapterInfo& info, const std::map<std::string, nn::LowRankDelta>& deltas) {
    bool same = true;
    for (const auto& [linear, delta] : deltas) {
        const nn::LowRankDelta& first = deltas.begin()->second;
        same = same && delta.a.size(0) == first.a.size(0) && delta.scale == first.scale;
        info.rank = std::max(info.rank, delta.a.size(0));
    }
    const double scale = same && !deltas.empty() ? deltas.begin()->second.scale : 1.0;
    info.alpha = scale * static_cast<double>(info.rank);
}

/// A LoRA file of any dialect.
Adapter read_lora_file(const SafetensorsFile& file) {
    LoraTensors tensors = read_lora_tensors(file, takes_no_key);
    const auto header = configuration_of(file, tensors);
    if (header) {
        for (auto& [linear, delta] : tensors.deltas) {
            const std::int64_t rank = delta.a.size(0);
            if (header->rank_of(linear) != rank) {
                refuse(file.path(), tensors.key_of_a(linear) + ": rank " + std::to_string(rank) +
                                        " differs from the header's r = " +
                                        std::to_string(header->rank_of(linear)));
            }
            delta.scale = header->scale_of(linear);
        }
    }
    Adapter adapter;
    describe(adapter.info, tensors.deltas);
    if (header) {
        adapter.info.rank = header->rank;
        adapter.info.alpha = header->alpha;
        adapter.info.rslora = header->rslora;
    }
    adapter.deltas = std::move(tensors.deltas);
    adapter.projection_weight = tensors.projection_weight;
    adapter.projection_bias = tensors.projection_bias;
    return adapter;
}

/// Puts the ID map's columns of the projection's A behind those of the stock file.
void append_id_map(const SafetensorsFile& file, const std::string& lora_file, Adapter& adapter) {
    const std::string key = a_key(kProjection);
    for (const std::string& other : file.keys()) {
        if (other != key) {
            refuse(file.path(),
                   other + ": not a tensor of an ID map's LoRA (expected " + key + ")");
        }
    }
    const auto found = adapter.deltas.find(kProjection);
    if (!file.contains(key) || found == adapter.deltas.end()) {
        refuse(
            file.path(),
            key + (file.contains(key) ? " has no counterpart in " : " is missing; ") + lora_file);
    }
    at::Tensor& a = found->second.a;
    std::vector<std::int64_t> wanted = a.sizes().vec();
    const std::vector<std::int64_t> shape = file.shape(key);
    if (shape.size() == wanted.size()) {
        wanted[1] = shape[1];
    }
    if (shape != wanted || shape[1] == 0) {
        refuse(file.path(), key + ": shape " + shape_text(shape) + " does not continue " +
                                lora_file + "'s " + shape_text(a.sizes()));
    }
    a = at::cat({a, read_values(file, key)}, 1);
}

void read_sidecar_projection(const SafetensorsFile& file, Adapter& adapter) {
    const std::string weight = std::string(kProjection) + ".weight";
    const std::string bias = std::string(kProjection) + ".bias";
    for (const std::string& key : file.keys()) {
        if (key != weight && key != bias) {
            refuse(file.path(), key + ": not a tensor of the input projection");
        }
    }
    adapter.projection_weight = adapter.projection_bias = at::Tensor();
    read_projection(file, weight, bias, adapter.projection_weight, adapter.projection_bias);
    if (!adapter.projection_weight.defined()) {
        refuse(file.path(), weight + " is missing");
    }
}

/// The LoRA of the projection where the LoRA file's dialect cannot hold it; its strength is 1.
void read_sidecar_lora(const SafetensorsFile& file, Adapter& adapter) {
    for (const std::string& key : file.keys()) {
        if (key != a_key(kProjection) && key != b_key(kProjection)) {
            refuse(file.path(), key + ": not a tensor of the projection's LoRA");
        }
    }
    LoraTensors tensors = read_lora_tensors(file, takes_no_key);
    if (tensors.deltas.empty() || adapter.deltas.count(kProjection) != 0) {
        refuse(file.path(),
               a_key(kProjection) +
                   (tensors.deltas.empty() ? " is missing" : " is in the LoRA file as well"));
    }
    adapter.info.rank = std::max(adapter.info.rank, tensors.deltas.begin()->second.a.size(0));
    adapter.info.alpha = static_cast<double>(adapter.info.rank);
    adapter.deltas.merge(tensors.deltas);
}

/// Input channels of what the adapter holds of the projection, where its shape tells: a
/// convolution.
std::int64_t channels_by_shape(const Adapter& adapter) {
    at::Tensor tensor = adapter.projection_weight;
    if (const auto delta = adapter.deltas.find(kProjection); delta != adapter.deltas.end()) {
        tensor = delta->second.a;
    }
    return tensor.defined() && tensor.dim() == 4 ? tensor.size(1) : 0;
}

void check_channels(const Adapter& adapter, const fs::path& path) {
    const std::int64_t channels = channels_by_shape(adapter);
    if (channels != 0 && channels != adapter.info.in_channels) {
        refuse(path, "in_channels is " + std::to_string(adapter.info.in_channels) + ", but " +
                         kProjection + " has " + std::to_string(channels));
    }
}

void check_not_empty(const Adapter& adapter, const fs::path& path) {
    if (adapter.deltas.empty() && !adapter.projection_weight.defined()) {
        refuse(path, "no tensors of an adapter in it");
    }
}

Adapter read_directory_files(const fs::path& directory, const std::vector<std::string>& files) {
    const auto listed = [&](const char* name) {
        return std::find(files.begin(), files.end(), name) != files.end();
    };
    const auto* const lora = std::find_if(kLoraFiles.begin(), kLoraFiles.end(), listed);
    Adapter adapter;
    if (lora != kLoraFiles.end()) {
        const SafetensorsFile file(directory / *lora);
        adapter = read_lora_file(file);
        check_not_empty(adapter, file.path());
    }
    if (listed(kProjectionLoraFile)) {
        read_sidecar_lora(SafetensorsFile(directory / kProjectionLoraFile), adapter);
    }
    if (listed(kIdMapFile)) {
        append_id_map(SafetensorsFile(directory / kIdMapFile),
                      lora != kLoraFiles.end() ? *lora : kStockFile, adapter);
    }
    if (listed(kProjectionFile)) {
        read_sidecar_projection(SafetensorsFile(directory / kProjectionFile), adapter);
    }
    return adapter;
}

Adapter read_with_manifest(const fs::path& directory) {
    const fs::path path = directory / kManifestFile;
    const Manifest manifest = read_manifest(path);
    for (const std::string& file : manifest.files) {
        if (!fs::exists(directory / file)) {
            refuse(path, "names " + file + ", which is not in " + directory.string());
        }
    }
    Adapter adapter = read_directory_files(directory, manifest.files);
    if (adapter.info.rank != manifest.info.rank) {
        refuse(path, "r is " + std::to_string(manifest.info.rank) + ", but " +
                         manifest.files.front() + " has rank " + std::to_string(adapter.info.rank));
    }
    adapter.info = manifest.info;
    check_channels(adapter, path);
    return adapter;
}

/// What the files themselves tell where nothing describes them.
Adapter described_by_shapes(Adapter adapter) {
    adapter.info.in_channels = channels_by_shape(adapter);
    adapter.info.id_map = adapter.info.in_channels == kIdMapChannels;
    return adapter;
}

Adapter read_directory(const fs::path& directory) {
    if (fs::exists(directory / kCheckpointFile)) {
        const SafetensorsFile file(directory / kCheckpointFile);
        return read_checkpoint_adapter(file);
    }
    if (fs::exists(directory / kManifestFile)) {
        return read_with_manifest(directory);
    }
    const auto there = [&](const char* name) { return fs::exists(directory / name); };
    const auto* const lora = std::find_if(kLoraFiles.begin(), kLoraFiles.end(), there);
    if (lora == kLoraFiles.end()) {
        const bool run = fs::exists(directory / "checkpoints");
        refuse(directory, std::string("no adapter in it: neither ") + kCheckpointFile + " nor " +
                              kManifestFile + " nor " + kStockFile + " nor " + kPeftFile +
                              (run ? " (a run directory: name one of its checkpoints)" : ""));
    }
    std::vector<std::string> files = {*lora};
    for (const char* sidecar : kSidecarFiles) {
        if (there(sidecar)) {
            files.emplace_back(sidecar);
        }
    }
    return described_by_shapes(read_directory_files(directory, files));
}

Adapter read_file(const fs::path& path) {
    const SafetensorsFile file(path);
    return is_checkpoint_adapter(file) ? read_checkpoint_adapter(file)
                                       : described_by_shapes(read_lora_file(file));
}

}  // namespace

Adapter read_adapter(const fs::path& path) {
    std::error_code fault;
    Adapter adapter = fs::is_directory(path, fault) ? read_directory(path) : read_file(path);
    check_not_empty(adapter, path);
    return adapter;
}

}  // namespace matrix::lora
