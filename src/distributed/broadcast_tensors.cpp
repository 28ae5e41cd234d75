#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "matrix/distributed/collective.h"

namespace matrix::distributed {
namespace {

constexpr std::int64_t kChunkBytes = std::int64_t{32} << 20;
constexpr std::int64_t kAlignment = 16;  // of the widest dtype, complex128

std::int64_t padded_bytes(const at::Tensor& tensor) {
    const auto bytes = static_cast<std::int64_t>(tensor.numel() * tensor.element_size());
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

void broadcast_packed(Communicator& group, const std::vector<at::Tensor>& tensors,
                      std::int64_t bytes, int root, std::string_view what) {
    // As bytes, which every backend carries, whatever the dtypes.
    at::Tensor flat = at::zeros({bytes}, at::TensorOptions(group.device()).dtype(at::kByte));
    const auto each = [&](const auto& copy) {
        std::int64_t offset = 0;
        for (const at::Tensor& tensor : tensors) {
            const std::int64_t own = tensor.numel() * tensor.element_size();
            const at::Tensor part = flat.narrow(0, offset, own);
            copy(tensor, part.view(tensor.scalar_type()).view(tensor.sizes()));
            offset += padded_bytes(tensor);
        }
    };
    if (group.rank() == root) {
        each([](const at::Tensor& tensor, const at::Tensor& part) { part.copy_(tensor); });
    }
    group.broadcast(flat, root, what)->wait();
    if (group.rank() != root) {
        each([](const at::Tensor& tensor, const at::Tensor& part) { tensor.copy_(part); });
    }
}

}  // namespace

void broadcast_tensors(Communicator& group, const std::vector<at::Tensor>& tensors, int root,
                       std::string_view what) {
    const c10::NoGradGuard no_grad;
    std::vector<at::Tensor> chunk;
    std::int64_t bytes = 0;
    const auto flush = [&] {
        if (!chunk.empty()) {
            broadcast_packed(group, chunk, bytes, root, what);
        }
        chunk.clear();
        bytes = 0;
    };
    for (const at::Tensor& tensor : tensors) {
        const std::int64_t own = padded_bytes(tensor);
        if (bytes + own > kChunkBytes) {
            flush();
        }
        if (own > 0) {
            chunk.push_back(tensor);
            bytes += own;
        }
    }
    flush();
}

}  // namespace matrix::distributed
