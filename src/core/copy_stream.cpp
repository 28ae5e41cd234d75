#include "matrix/core/copy_stream.h"

#include <cstring>
#include <optional>
#ifdef MATRIX_WITH_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace matrix {

#ifdef MATRIX_WITH_CUDA
struct CopyStream::Impl {
    std::optional<c10::cuda::CUDAStream> stream;  // of a GPU, once there was a copy
};
struct CopyStream::Mark::Impl {
    at::cuda::CUDAEvent event;
};

CopyStream::~CopyStream() {
    if (impl_->stream) {
        C10_CUDA_CHECK_WARN(cudaStreamSynchronize(*impl_->stream));
    }
}

void CopyStream::begin(const c10::Device& device) {
    if (!device.is_cuda()) {
        return;
    }
    if (!impl_->stream) {
        impl_->stream = c10::cuda::getStreamFromPool(false, device.index());
    }
    at::cuda::CUDAEvent queued;
    queued.record(c10::cuda::getCurrentCUDAStream(device.index()));
    queued.block(*impl_->stream);
}

void CopyStream::copy(void* into, const void* from, std::size_t bytes) {
    if (bytes == 0) {  // an empty tensor has no address
        return;
    }
    if (impl_->stream) {
        C10_CUDA_CHECK(cudaMemcpyAsync(into, from, bytes, cudaMemcpyDefault, *impl_->stream));
    } else {
        std::memcpy(into, from, bytes);
    }
}

void CopyStream::end(Mark& mark) {
    if (impl_->stream) {
        mark.impl_->event.record(*impl_->stream);
    }
}

void CopyStream::wait(Mark& mark) {
    at::cuda::CUDAEvent& event = mark.impl_->event;
    if (event.isCreated()) {
        event.block(c10::cuda::getCurrentCUDAStream(event.device_index()));
    }
}
#else
struct CopyStream::Impl {};
struct CopyStream::Mark::Impl {};

CopyStream::~CopyStream() = default;
void CopyStream::begin(const c10::Device&) {}
void CopyStream::copy(void* into, const void* from, std::size_t bytes) {
    if (bytes > 0) {  // an empty tensor has no address
        std::memcpy(into, from, bytes);
    }
}
void CopyStream::end(Mark&) {}
void CopyStream::wait(Mark&) {}
#endif

CopyStream::CopyStream() : impl_(std::make_unique<Impl>()) {}
CopyStream::Mark::Mark() : impl_(std::make_unique<Impl>()) {}
CopyStream::Mark::~Mark() = default;

}  // namespace matrix
