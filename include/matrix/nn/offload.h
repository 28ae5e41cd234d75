#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace matrix::nn {

/// Tensors that are in the host's memory, or on their way there or back.
class OffloadedTensors {
public:
    virtual ~OffloadedTensors() = default;
    /// Starts to bring them back; nothing if that has begun.
    virtual void fetch() = 0;
    /// Their values on their device, with their strides. Once.
    [[nodiscard]] virtual std::vector<at::Tensor> take() = 0;
};

/// What blocks keep from forward to backward, in the host's memory meanwhile. On a GPU copies run
/// beside the computation and the host waits for none of them; its memory is page-locked, kept from
/// step to step and never counted as the device's, even where that is the CPU. One thread at a
/// time.
class ActivationOffload {
public:
    virtual ~ActivationOffload() = default;
    /// After each block's forward: lets go of what the block before has stored, as the device's
    /// next work waits for those copies and may use their memory. What that is, if it stored any.
    [[nodiscard]] virtual std::weak_ptr<OffloadedTensors> end_block() = 0;
    /// Then starts to copy this block's tensors, which nobody may change, to the host. RunError
    /// where the host has too little memory.
    [[nodiscard]] virtual std::shared_ptr<OffloadedTensors> store(
        const std::vector<at::Tensor>& tensors) = 0;
    /// Of the host's memory, in use or kept for the next step.
    [[nodiscard]] virtual std::int64_t host_bytes() const = 0;
};

[[nodiscard]] std::shared_ptr<ActivationOffload> make_activation_offload();

}  // namespace matrix::nn
