#include <c10/util/Exception.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/tensor_io/safetensors.h"
#include "tensor_io/safetensors_header.h"

namespace matrix::tensor_io {
namespace {

using nlohmann::ordered_json;
using Item = std::pair<const std::string, at::Tensor>;

// Wide types first: every tensor then begins at a multiple of its element size.
std::vector<const Item*> in_file_order(const TensorMap& tensors) {
    std::vector<const Item*> order;
    for (const Item& item : tensors) {
        const auto& [name, tensor] = item;
        TORCH_CHECK(tensor.defined(), "write_safetensors: tensor ", name, " is undefined");
        TORCH_CHECK(!dtype_name(tensor.scalar_type()).empty(), "write_safetensors: tensor ", name,
                    " has dtype ", tensor.scalar_type(), ", which the format has not");
        TORCH_CHECK(name != "__metadata__", "write_safetensors: __metadata__ is no tensor's name");
        order.push_back(&item);
    }
    std::stable_sort(order.begin(), order.end(), [](const Item* a, const Item* b) {
        return a->second.element_size() > b->second.element_size();
    });
    return order;
}

std::string header_text(const std::vector<const Item*>& order, const Metadata& metadata,
                        const std::filesystem::path& path) {
    ordered_json header = ordered_json::object();
    if (!metadata.empty()) {
        header["__metadata__"] = metadata;
    }
    std::uint64_t position = 0;
    for (const Item* item : order) {
        const std::uint64_t end = position + item->second.nbytes();
        ordered_json entry = ordered_json::object();
        entry["dtype"] = dtype_name(item->second.scalar_type());
        entry["shape"] = item->second.sizes().vec();
        entry["data_offsets"] = {position, end};
        header[item->first] = std::move(entry);
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

}  // namespace

void write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                       const Metadata& metadata) {
    const std::vector<const Item*> order = in_file_order(tensors);
    const std::string header = header_text(order, metadata, path);
    write_file_atomically(path, [&](int descriptor) {
        const std::uint64_t header_bytes = header.size();
        write_all(descriptor, &header_bytes, sizeof(header_bytes), path);
        write_all(descriptor, header.data(), header.size(), path);
        for (const Item* item : order) {
            const at::Tensor data = item->second.detach().to(at::kCPU).contiguous();
            write_all(descriptor, data.const_data_ptr(), data.nbytes(), path);
        }
    });
}

}  // namespace matrix::tensor_io
