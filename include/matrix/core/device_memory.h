#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>

namespace matrix {

/// Bytes that tensors ask for, without what an allocator rounds up or keeps for later.
struct TensorBytes {
    std::int64_t live = 0;
    std::int64_t peak = 0;  ///< the most that was live at once since the last reset_peak
};

/// Replaces PyTorch's allocator of CPU memory, for the whole process, by one that counts and that
/// keeps what is freed for tensors of about the same size: a step asks for the same sizes again and
/// again, and memory that is fresh from the kernel has to be cleared page by page. What is kept and
/// what is live together never exceed the most that was live. To be called before any tensor is
/// made; more calls change nothing.
void use_counting_allocator();

/// On a CPU zeros without use_counting_allocator.
[[nodiscard]] TensorBytes tensor_bytes(c10::Device device);
/// The peak becomes what is live now.
void reset_peak(c10::Device device);

/// The most that this process had resident at once, in bytes; 0 where the system does not say.
/// What getrusage says holds of the program that started this one, too.
[[nodiscard]] std::int64_t peak_resident_bytes();

/// What a GPU has left for this process, the allocator's cache included; nothing for a CPU.
[[nodiscard]] std::optional<std::int64_t> free_bytes(c10::Device device);

/// Gives back to the device, and to the kernel, what allocators keep of tensors that are gone.
void release_cached_memory();

}  // namespace matrix
