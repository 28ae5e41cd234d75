#pragma once

#include "matrix/tensor_io/safetensors.h"
#include "matrix/train/config.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace matrix::train {

/// The factor on the learning rate of optimizer step `step` (from 0) of `steps`.
[[nodiscard]] double learning_rate_factor(const ScheduleConfig& config, std::int64_t step,
                                          std::int64_t steps);

/// AdamW (decoupled decay, bias-corrected moments: kernels/adamw.h) over float32 tensors by name.
/// Gradients are clipped by their global norm, and the whole update is skipped, on the device,
/// where that norm is not finite.
class AdamW {
public:
    /// `heads` (names beginning with "heads.") take `head_learning_rate`, the rest the config's.
    AdamW(std::map<std::string, at::Tensor> parameters, const OptimizerConfig& config,
          double head_learning_rate);

    /// Clips and applies the gradients, then drops them. `factor` scales both learning rates.
    /// `healthy` [] is a float that must be finite for the update to happen (the step's loss).
    /// Returns the gradients' norm before clipping, [] float32, on the device: nothing here waits
    /// for it.
    at::Tensor step(double factor, const at::Tensor& healthy);

    /// Moments and step counts by name: "exp_avg.<name>", "exp_avg_sq.<name>", "step.<name>".
    [[nodiscard]] tensor_io::TensorMap state() const;
    /// RunError naming everything that is missing, mis-shaped or not trained here, and nothing is
    /// changed then.
    void load_state(const tensor_io::TensorMap& state, const std::string& file);
    [[nodiscard]] const std::map<std::string, at::Tensor>& parameters() const {
        return parameters_;
    }

private:
    struct Group {
        double learning_rate = 0.0;
        std::vector<std::string> names;
        std::vector<at::Tensor> values, exp_avg, exp_avg_sq, steps;
    };

    std::map<std::string, at::Tensor> parameters_;
    OptimizerConfig config_;
    std::vector<Group> groups_;
};

}  // namespace matrix::train
