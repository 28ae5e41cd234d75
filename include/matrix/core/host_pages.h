#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <string>
#include <utility>

namespace matrix {

/// Room for a tensor of that many bytes where the next one begins at a multiple of 64.
constexpr std::size_t aligned_size(std::size_t bytes) {
    constexpr std::size_t kAlignment = 64;
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// Memory of the host that no allocator of tensors knows, page-locked for a GPU. Nobody may copy
/// to or from it any more when it goes.
class HostPages {
public:
    /// RunError where the host does not give it: "... for `use`", which names a remedy.
    HostPages(std::size_t bytes, const c10::Device& device, const std::string& use);
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

}  // namespace matrix
