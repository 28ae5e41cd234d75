#include <ATen/ATen.h>

#include <algorithm>

#include "lora/checkpoint_adapter.h"
#include "lora/lora_file.h"
#include "lora/lora_header.h"
#include "lora/manifest.h"
#include "lora/names.h"
#include "matrix/core/error.h"
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

/// A file in the layout of diffusers: pairs, and peft's configuration in the header or none.
Adapter read_stock(const SafetensorsFile& file) {
    Adapter adapter;
    adapter.deltas = read_pairs(file, takes_no_key);
    const auto header = read_lora_header(file.metadata(), file.path().string());
    std::int64_t largest = 0;
    for (auto& [linear, delta] : adapter.deltas) {
        const std::int64_t rank = delta.a.size(0);
        if (header && header->rank_of(linear) != rank) {
            refuse(file.path(),
                   a_key(linear) + ": rank " + std::to_string(rank) +
                       " differs from the header's r = " + std::to_string(header->rank_of(linear)));
        }
        delta.scale = header ? header->scale_of(linear) : 1.0;
        largest = std::max(largest, rank);
    }
    adapter.info.rank = header ? header->rank : largest;
    adapter.info.alpha = header ? header->alpha : static_cast<double>(largest);
    adapter.info.rslora = header && header->rslora;
    return adapter;
}

/// Puts the ID map's columns of the projection's A behind those of the stock file.
void append_id_map(const SafetensorsFile& file, Adapter& adapter) {
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
            key + (file.contains(key) ? " has no counterpart in " : " is missing; ") + kStockFile);
    }
    at::Tensor& a = found->second.a;
    std::vector<std::int64_t> wanted = a.sizes().vec();
    const std::vector<std::int64_t> shape = file.shape(key);
    if (shape.size() == wanted.size()) {
        wanted[1] = shape[1];
    }
    if (shape != wanted || shape[1] == 0) {
        refuse(file.path(), key + ": shape " + shape_text(shape) + " does not continue " +
                                kStockFile + "'s " + shape_text(a.sizes()));
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
    read_projection(file, weight, bias, adapter);
    if (!adapter.projection_weight.defined()) {
        refuse(file.path(), weight + " is missing");
    }
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
    Adapter adapter;
    if (listed(kStockFile)) {
        const SafetensorsFile file(directory / kStockFile);
        adapter = read_stock(file);
        check_not_empty(adapter, file.path());
    }
    if (listed(kIdMapFile)) {
        append_id_map(SafetensorsFile(directory / kIdMapFile), adapter);
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
        refuse(path, "r is " + std::to_string(manifest.info.rank) + ", but " + kStockFile +
                         " has rank " + std::to_string(adapter.info.rank));
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
    if (!fs::exists(directory / kStockFile)) {
        const bool run = fs::exists(directory / "checkpoints");
        refuse(directory, std::string("no adapter in it: neither ") + kCheckpointFile + " nor " +
                              kManifestFile + " nor " + kStockFile +
                              (run ? " (a run directory: name one of its checkpoints)" : ""));
    }
    std::vector<std::string> files = {kStockFile};
    for (const char* sidecar : {kIdMapFile, kProjectionFile}) {
        if (fs::exists(directory / sidecar)) {
            files.emplace_back(sidecar);
        }
    }
    return described_by_shapes(read_directory_files(directory, files));
}

Adapter read_file(const fs::path& path) {
    const SafetensorsFile file(path);
    return is_checkpoint_adapter(file) ? read_checkpoint_adapter(file)
                                       : described_by_shapes(read_stock(file));
}

}  // namespace

Adapter read_adapter(const fs::path& path) {
    std::error_code fault;
    Adapter adapter = fs::is_directory(path, fault) ? read_directory(path) : read_file(path);
    check_not_empty(adapter, path);
    return adapter;
}

}  // namespace matrix::lora
