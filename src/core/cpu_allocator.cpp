#include "core/cpu_allocator.h"

#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace matrix {
namespace {

constexpr std::size_t kAlignment = 64;  // as PyTorch's own, for vector loads
constexpr std::size_t kMapped =
    1 << 20;  // from here on blocks are mapped and kept; malloc keeps smaller ones by itself
constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = 2 << 20;
constexpr std::size_t kHugeFrom = 16 << 20;  // from here on rounding to huge pages costs little

struct alignas(kAlignment) Header {
    std::size_t bytes;  ///< asked for
    std::size_t block;  ///< mapped, this header included; 0: from malloc
};

std::size_t round_up(std::size_t bytes, std::size_t to) {
    return (bytes + to - 1) / to * to;
}

[[noreturn]] void out_of_memory(std::size_t bytes) {
    TORCH_CHECK_WITH(OutOfMemoryError, false, "cannot allocate ", bytes, " bytes of memory");
}

/// [block] bytes, aligned to huge pages where it is a multiple of them.
void* map_block(std::size_t block) {
    const std::size_t alignment = block % kHugePage == 0 ? kHugePage : kPage;
    const std::size_t slack = alignment - kPage;
    void* start =
        mmap(nullptr, block + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        return nullptr;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(start);
    const std::size_t before = round_up(address, alignment) - address;
    auto* base = static_cast<std::byte*>(start) + before;
    if (before > 0) {
        munmap(start, before);
    }
    if (slack > before) {
        munmap(base + block, slack - before);
    }
    if (alignment == kHugePage) {
        madvise(base, block, MADV_HUGEPAGE);
    }
    return base;
}

}  // namespace

CpuAllocator& CpuAllocator::instance() {
    static auto* allocator = new CpuAllocator();
    return *allocator;
}

c10::DataPtr CpuAllocator::allocate(std::size_t bytes) {
    if (bytes == 0) {
        return {nullptr, c10::Device(c10::DeviceType::CPU)};
    }
    const std::size_t whole = bytes + sizeof(Header);
    TORCH_CHECK_WITH(OutOfMemoryError, whole > bytes, "cannot allocate ", bytes, " bytes");
    std::size_t block = 0;
    void* base = nullptr;
    if (whole < kMapped) {
        if (posix_memalign(&base, kAlignment, whole) != 0) {
            out_of_memory(bytes);
        }
    } else {
        block = round_up(whole, whole < kHugeFrom ? kPage : kHugePage);
        base = take(block);
        if (base == nullptr) {
            out_of_memory(bytes);
        }
        block = static_cast<Header*>(base)->block;
    }
    new (base) Header{bytes, block};
    count(static_cast<std::int64_t>(bytes));
    void* data = static_cast<std::byte*>(base) + sizeof(Header);
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
}

void CpuAllocator::release(void* data) {
    if (data == nullptr) {  // what oneDNN gives back of an empty buffer
        return;
    }
    void* base = static_cast<std::byte*>(data) - sizeof(Header);
    const Header header = *static_cast<Header*>(base);
    instance().count(-static_cast<std::int64_t>(header.bytes));
    if (header.block == 0) {
        std::free(base);
    } else {
        instance().give_back(base, header.block);
    }
}

void* CpuAllocator::take(std::size_t block) {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.lower_bound(block);
    if (found != kept_.end() && found->first <= block + block / 8) {
        const auto [size, base] = *found;
        kept_.erase(found);
        kept_bytes_ -= size;
        mapped_ += size;
        most_mapped_ = std::max(most_mapped_, mapped_);
        static_cast<Header*>(base)->block = size;
        return base;
    }
    mapped_ += block;
    most_mapped_ = std::max(most_mapped_, mapped_);
    trim(most_mapped_ - mapped_);
    void* base = map_block(block);
    if (base == nullptr) {
        trim(0);
        base = map_block(block);
    }
    if (base == nullptr) {
        mapped_ -= block;
        return nullptr;
    }
    static_cast<Header*>(base)->block = block;
    return base;
}

void CpuAllocator::give_back(void* base, std::size_t block) {
    const std::lock_guard lock(mutex_);
    mapped_ -= block;
    kept_.emplace(block, base);
    kept_bytes_ += block;
    trim(most_mapped_ - mapped_);
}

void CpuAllocator::trim(std::size_t bytes) {
    // The largest first: they are the fewest calls, and the least likely to be asked for again.
    while (kept_bytes_ > bytes) {
        const auto last = std::prev(kept_.end());
        munmap(last->second, last->first);
        kept_bytes_ -= last->first;
        kept_.erase(last);
    }
}

void CpuAllocator::count(std::int64_t change) {
    const std::int64_t now = live_.fetch_add(change, std::memory_order_relaxed) + change;
    std::int64_t peak = peak_.load(std::memory_order_relaxed);
    while (now > peak && !peak_.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
}

c10::DeleterFnPtr CpuAllocator::raw_deleter() const {
    return &release;
}

void CpuAllocator::copy_data(void* destination, const void* source, std::size_t bytes) const {
    default_copy_data(destination, source, bytes);
}

TensorBytes CpuAllocator::bytes() const {
    return {live_.load(), peak_.load()};
}

void CpuAllocator::reset_peak() {
    peak_ = live_.load();
}

void CpuAllocator::release_cached() {
    const std::lock_guard lock(mutex_);
    trim(0);
    most_mapped_ = mapped_;
}

}  // namespace matrix
