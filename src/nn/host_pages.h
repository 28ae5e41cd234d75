#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <utility>

namespace matrix::nn {

/// Memory of the host that no allocator of tensors knows, page-locked for a GPU. Nobody may copy
/// to or from it any more when it goes.
class HostPages {
public:
    /// RunError where the host does not give it.
    HostPages(std::size_t bytes, const c10::Device& device);
    HostPages(HostPages&& other) noexcept { swap(other); }
    HostPages& operator=(HostPages&& other) noexcept {
        swap(other);
        return *this;
    }
    ~HostPages();

    [[nodiscard]] std::byte* data() const { return data_; }
    [[nodiscard]] std::size_t bytes() const { return bytes_; }

private:
    void swap(HostPages& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        std::swap(locked_, other.locked_);
    }

    std::byte* data_ = nullptr;
    std::size_t bytes_ = 0;
    bool locked_ = false;
};

}  // namespace matrix::nn
