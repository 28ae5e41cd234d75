#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/tensor_io/safetensors.h"
#include "tensor_io/safetensors_header.h"

namespace matrix::tensor_io {
namespace {

using nlohmann::ordered_json;

// Wide types first: every tensor then begins at a multiple of its element size.
void put_in_file_order(std::vector<PlannedTensor>& tensors) {
    for (const PlannedTensor& tensor : tensors) {
        TORCH_CHECK(!dtype_name(tensor.dtype).empty(), "write_safetensors: tensor ", tensor.key,
                    " has dtype ", tensor.dtype, ", which the format has not");
        TORCH_CHECK(tensor.key != "__metadata__",
                    "write_safetensors: __metadata__ is no tensor's name");
    }
    std::stable_sort(tensors.begin(), tensors.end(),
                     [](const PlannedTensor& a, const PlannedTensor& b) {
                         return c10::elementSize(a.dtype) > c10::elementSize(b.dtype);
                     });
}

std::string header_text(const std::vector<PlannedTensor>& order, const Metadata& metadata,
                        const std::filesystem::path& path) {
    ordered_json header = ordered_json::object();
    if (!metadata.empty()) {
        header["__metadata__"] = metadata;
    }
    std::uint64_t position = 0;
    for (const PlannedTensor& tensor : order) {
        const std::uint64_t end = position + tensor.bytes();
        ordered_json entry = ordered_json::object();
        entry["dtype"] = dtype_name(tensor.dtype);
        entry["shape"] = tensor.shape;
        entry["data_offsets"] = {position, end};
        header[tensor.key] = std::move(entry);
        position = end;
    }
    std::string text;
    try {
        text = header.dump();
    } catch (const ordered_json::exception&) {
        throw RunError(path.string() + ": a tensor's name or a metadata text is not valid UTF-8");
    }
    text.resize((text.size() + 7) / 8 * 8, ' ');
    if (text.size() > kMaxHeaderBytes) {
        throw RunError(path.string() + ": a header of " + std::to_string(text.size()) +
                       " bytes is more than the format allows");
    }
    return text;
}

std::vector<std::vector<PlannedTensor>> split_into_shards(const std::vector<PlannedTensor>& tensors,
                                                          std::uint64_t max_shard_bytes) {
    std::vector<std::vector<PlannedTensor>> shards(1);
    std::uint64_t used = 0;
    for (const PlannedTensor& tensor : tensors) {
        if (!shards.back().empty() && used + tensor.bytes() > max_shard_bytes) {
            shards.emplace_back();
            used = 0;
        }
        used += tensor.bytes();
        shards.back().push_back(tensor);
    }
    return shards;
}

std::string shard_name(const std::string& stem, std::size_t index, std::size_t count) {
    char numbers[48];
    std::snprintf(numbers, sizeof numbers, "-%05zu-of-%05zu.safetensors", index + 1, count);
    return stem + numbers;
}

}  // namespace

std::uint64_t PlannedTensor::bytes() const {
    return static_cast<std::uint64_t>(c10::multiply_integers(shape)) * c10::elementSize(dtype);
}

void write_safetensors(const std::filesystem::path& path, std::vector<PlannedTensor> tensors,
                       const MakeTensor& make, const Metadata& metadata) {
    put_in_file_order(tensors);
    const std::string header = header_text(tensors, metadata, path);
    write_file_atomically(path, [&](int descriptor) {
        const std::uint64_t header_bytes = header.size();
        write_all(descriptor, &header_bytes, sizeof(header_bytes), path);
        write_all(descriptor, header.data(), header.size(), path);
        for (const PlannedTensor& planned : tensors) {
            const at::Tensor data = make(planned.key).detach().to(at::kCPU).contiguous();
            TORCH_CHECK(data.sizes() == planned.shape && data.scalar_type() == planned.dtype,
                        "write_safetensors: tensor ", planned.key, " is not as it was planned");
            write_all(descriptor, data.const_data_ptr(), data.nbytes(), path);
        }
    });
}

void write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                       const Metadata& metadata) {
    std::vector<PlannedTensor> planned;
    for (const auto& [name, tensor] : tensors) {
        TORCH_CHECK(tensor.defined(), "write_safetensors: tensor ", name, " is undefined");
        planned.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
    }
    write_safetensors(
        path, std::move(planned), [&](const std::string& key) { return tensors.at(key); },
        metadata);
}

void write_component(const std::filesystem::path& directory, const std::string& stem,
                     const std::vector<PlannedTensor>& tensors, const MakeTensor& make,
                     std::uint64_t max_shard_bytes) {
    const Metadata metadata = {{"format", "pt"}};
    const auto shards = split_into_shards(tensors, max_shard_bytes);
    if (shards.size() == 1) {
        write_safetensors(directory / (stem + ".safetensors"), shards.front(), make, metadata);
        return;
    }
    ordered_json weight_map = ordered_json::object();
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < shards.size(); ++i) {
        const std::string name = shard_name(stem, i, shards.size());
        write_safetensors(directory / name, shards[i], make, metadata);
        for (const PlannedTensor& tensor : shards[i]) {
            weight_map[tensor.key] = name;
            total += tensor.bytes();
        }
    }
    const ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
    write_file_atomically(directory / (stem + ".safetensors.index.json"), index.dump(2) + "\n");
}

}  // namespace matrix::tensor_io
