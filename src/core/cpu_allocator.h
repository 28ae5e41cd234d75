#pragma once

#include <c10/core/Allocator.h>

#include <atomic>
#include <cstddef>
#include <map>
#include <mutex>

#include "matrix/core/device_memory.h"

namespace matrix {

/// The allocator of use_counting_allocator. Every block has a header before its data, so that it
/// can be freed by its data pointer alone.
class CpuAllocator final : public c10::Allocator {
public:
    /// One for the process, never destroyed: tensors may outlive everything else.
    static CpuAllocator& instance();

    c10::DataPtr allocate(std::size_t bytes) override;
    [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override;
    void copy_data(void* destination, const void* source, std::size_t bytes) const override;

    [[nodiscard]] TensorBytes bytes() const;
    void reset_peak();
    void release_cached();

private:
    CpuAllocator() = default;
    static void release(void* data);
    void* take(std::size_t block);
    void give_back(void* base, std::size_t block);
    void count(std::int64_t change);
    /// Unmaps kept blocks until at most `bytes` are left. The mutex is held.
    void trim(std::size_t bytes);

    std::atomic<std::int64_t> live_{0}, peak_{0};

    std::mutex mutex_;  ///< of what follows
    std::multimap<std::size_t, void*> kept_;
    std::size_t kept_bytes_ = 0;
    std::size_t mapped_ = 0;       ///< in blocks that are in use
    std::size_t most_mapped_ = 0;  ///< since release_cached
};

}  // namespace matrix
