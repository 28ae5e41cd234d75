#pragma once

#include <map>
#include <mutex>
#include <string>

#include "kernels/attention_backends.h"
#include "kernels/self_check.h"

namespace matrix::kernels {

/// Seconds that a call takes on the device of a tensor; waits for the device.
using MeasureSeconds =
    std::function<double(const at::Tensor& on, const std::function<void()>& call)>;

/// The fastest of several backends that are right, for each device, dtype and shape: at its first
/// call each is held against plain operations in float32 on a small case with the same head_dim,
/// values, log-sum-exp and gradients, and those that agree are timed on the call's own tensors,
/// forward and backward; one that fails there, at another size, is no reason to end a run. The
/// choice is logged; the same one is given from then on.
class AttentionChoice {
public:
    AttentionChoice(std::vector<AttentionBackend> candidates, MeasureSeconds seconds)
        : candidates_(std::move(candidates)), seconds_(std::move(seconds)) {}

    /// RunError where no backend is right.
    const AttentionBackend& of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               double scale);

private:
    [[nodiscard]] const AttentionBackend& fastest(const at::Tensor& q, const at::Tensor& k,
                                                  const at::Tensor& v, double scale);
    /// Infinite where the backend throws.
    [[nodiscard]] double seconds_of(const AttentionBackend& backend, const at::Tensor& q,
                                    const at::Tensor& k, const at::Tensor& v, double scale) const;

    std::vector<AttentionBackend> candidates_;
    MeasureSeconds seconds_;
    SelfChecks checks_;
    std::mutex mutex_;
    std::map<std::string, const AttentionBackend*> chosen_;
};

}  // namespace matrix::kernels
