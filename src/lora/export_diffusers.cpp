#include <ATen/ATen.h>

#include <algorithm>

#include "lora/lora_header.h"
#include "lora/manifest.h"
#include "lora/names.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"

namespace matrix::lora {
namespace {

namespace fs = std::filesystem;
using tensor_io::TensorMap;

const tensor_io::Metadata kFormat = {{"format", "pt"}};

std::int64_t largest_rank(const Adapter& adapter) {
    std::int64_t rank = 0;
    for (const auto& [linear, delta] : adapter.deltas) {
        rank = std::max(rank, delta.a.size(0));
    }
    return rank;
}

at::Tensor padded(const at::Tensor& tensor, std::int64_t dim, std::int64_t size) {
    std::vector<std::int64_t> shape = tensor.sizes().vec();
    shape[static_cast<std::size_t>(dim)] = size - tensor.size(dim);
    return at::cat({tensor, at::zeros(shape, tensor.options())}, dim);
}

/// The same map with scale 1 and `rank` rows; zeros fill up.
nn::LowRankDelta folded(const nn::LowRankDelta& delta, std::int64_t rank) {
    const at::Tensor a = delta.a.detach().to(at::kCPU, at::kFloat);
    const at::Tensor b = delta.b.detach().to(at::kCPU, at::kFloat) * delta.scale;
    return {padded(a, 0, rank), padded(b, 1, rank), 1.0};
}

/// The largest absolute difference of scale B A. A is the same before and after, so it is that of
/// (scale B - B') A; float64 keeps what float32 would round away.
double difference(const nn::LowRankDelta& before, const nn::LowRankDelta& after) {
    const std::int64_t rank = before.a.size(0);
    const auto matrix = [](const at::Tensor& t) {
        return t.detach().to(at::kCPU, at::kDouble).flatten(1);
    };
    const at::Tensor rounding =
        matrix(before.b) * before.scale - matrix(after.b).narrow(1, 0, rank);  // [out, r]
    return at::mm(rounding, matrix(before.a)).abs().max().item<double>();
}

/// Columns of the projection's A (its dimension 1) that a model without the ID map has, of all:
/// two thirds, latents and image latents of latents, image latents and ID map.
std::int64_t stock_columns(const Adapter& adapter, const at::Tensor& a) {
    return adapter.info.id_map && a.size(1) % 3 == 0 ? a.size(1) / 3 * 2 : a.size(1);
}

/// Safetensors files of the directory by name.
std::map<std::string, TensorMap> files_of(const Adapter& adapter) {
    std::map<std::string, TensorMap> files;
    for (const auto& [linear, delta] : adapter.deltas) {
        TensorMap& stock = files[kStockFile];
        stock[a_key(linear)] = delta.a;
        stock[b_key(linear)] = delta.b;
        const std::int64_t columns = stock_columns(adapter, delta.a);
        if (linear == kProjection && columns < delta.a.size(1)) {
            stock[a_key(linear)] = delta.a.narrow(1, 0, columns);
            files[kIdMapFile][a_key(linear)] =
                delta.a.narrow(1, columns, delta.a.size(1) - columns);
        }
    }
    if (adapter.projection_weight.defined()) {
        TensorMap& projection = files[kProjectionFile];
        projection[std::string(kProjection) + ".weight"] = adapter.projection_weight;
        if (adapter.projection_bias.defined()) {
            projection[std::string(kProjection) + ".bias"] = adapter.projection_bias;
        }
    }
    return files;
}

void write_files(const Adapter& adapter, const fs::path& directory) {
    Manifest manifest;
    manifest.info = adapter.info;
    for (const auto& [name, tensors] : files_of(adapter)) {
        tensor_io::Metadata metadata = kFormat;
        if (name == kStockFile) {
            std::vector<std::string> linears;
            for (const auto& [linear, delta] : adapter.deltas) {
                linears.push_back(linear);
            }
            metadata[kHeaderEntry] = lora_header_text(adapter.info.rank, linears);
        }
        tensor_io::write_safetensors(directory / name, tensors, metadata);
        manifest.files.push_back(name);
    }
    write_file_atomically(directory / kManifestFile, manifest_text(manifest));
}

bool same(const at::Tensor& first, const at::Tensor& second) {
    return first.defined() == second.defined() && (!first.defined() || first.equal(second));
}

/// What was written must be what was meant, through the same reader that users get.
void check_written(const Adapter& meant, const fs::path& directory, const fs::path& target) {
    const Adapter read = read_adapter(directory);
    bool equal = read.deltas.size() == meant.deltas.size() &&
                 same(read.projection_weight, meant.projection_weight) &&
                 same(read.projection_bias, meant.projection_bias);
    for (const auto& [linear, delta] : meant.deltas) {
        const auto found = read.deltas.find(linear);
        equal = equal && found != read.deltas.end() && found->second.scale == delta.scale &&
                same(found->second.a, delta.a) && same(found->second.b, delta.b);
    }
    if (!equal) {
        throw RunError(target.string() + ": the files read back differ from what was written");
    }
}

/// Nothing but an empty directory or an adapter directory of this program gives way.
void check_replaceable(const fs::path& directory) {
    if (!fs::exists(fs::symlink_status(directory))) {
        return;
    }
    bool replaceable = fs::is_directory(directory);
    if (replaceable && !fs::is_empty(directory)) {
        replaceable = fs::exists(directory / kManifestFile);
        for (const auto& entry : fs::directory_iterator(directory)) {
            const std::string name = entry.path().filename().string();
            replaceable = replaceable && (name == kManifestFile || name == kStockFile ||
                                          name == kProjectionFile || name == kIdMapFile);
        }
    }
    if (!replaceable) {
        throw RunError(directory.string() +
                       ": exists and is neither empty nor an adapter directory; choose another");
    }
}

}  // namespace

double export_diffusers(const Adapter& adapter, const fs::path& directory) {
    check_replaceable(directory);
    Adapter written;
    written.info = adapter.info;
    written.info.trained_alpha = adapter.info.trained_alpha.value_or(adapter.info.alpha);
    written.info.rank = largest_rank(adapter);
    written.info.alpha = static_cast<double>(written.info.rank);
    written.info.rslora = false;
    double largest = 0.0;
    for (const auto& [linear, delta] : adapter.deltas) {
        const nn::LowRankDelta& kept = written.deltas[linear] = folded(delta, written.info.rank);
        largest = std::max(largest, difference(delta, kept));
    }
    written.projection_weight = adapter.projection_weight;
    written.projection_bias = adapter.projection_bias;
    write_directory_atomically(directory, [&](const fs::path& temporary) {
        write_files(written, temporary);
        check_written(written, temporary, directory);
    });
    return largest;
}

}  // namespace matrix::lora
