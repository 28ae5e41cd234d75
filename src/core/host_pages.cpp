#include "matrix/core/host_pages.h"

#include <sys/mman.h>

#include <string>

#include "matrix/core/error.h"
#ifdef MATRIX_WITH_CUDA
#include <c10/cuda/CUDAException.h>
#endif

namespace matrix {
namespace {

/// Whether the pages are locked now.
bool lock([[maybe_unused]] void* pages, [[maybe_unused]] std::size_t bytes) {
#ifdef MATRIX_WITH_CUDA
    if (cudaHostRegister(pages, bytes, cudaHostRegisterDefault) == cudaSuccess) {
        return true;
    }
    (void)cudaGetLastError();  // or the next call would report it
#endif
    return false;
}

void unlock([[maybe_unused]] void* pages) {
#ifdef MATRIX_WITH_CUDA
    C10_CUDA_CHECK_WARN(cudaHostUnregister(pages));
#endif
}

}  // namespace

HostPages::HostPages(std::size_t bytes, const c10::Device& device, const std::string& use)
    : bytes_(bytes) {
    void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const bool mapped = pages != MAP_FAILED;
    locked_ = mapped && device.is_cuda() && lock(pages, bytes);
    if (!mapped || (device.is_cuda() && !locked_)) {
        if (mapped) {
            munmap(pages, bytes);
        }
        throw RunError("the host gives no " + std::to_string((bytes >> 20) + 1) + " MiB more for " +
                       use);
    }
    data_ = static_cast<std::byte*>(pages);
}

HostPages::~HostPages() {
    if (data_ == nullptr) {
        return;
    }
    if (locked_) {
        unlock(data_);
    }
    munmap(data_, bytes_);
}

}  // namespace matrix
