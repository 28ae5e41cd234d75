#include "matrix/train/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numbers>

#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "matrix/kernels/adamw.h"

namespace matrix::train {
namespace {

constexpr double kClipEpsilon = 1e-6;  // as torch.nn.utils.clip_grad_norm_

}  // namespace

double learning_rate_factor(const ScheduleConfig& config, std::int64_t step, std::int64_t steps) {
    const auto now = static_cast<double>(step);
    const auto warmup = static_cast<double>(config.warmup_steps);
    if (step < config.warmup_steps) {
        return now / std::max(1.0, warmup);
    }
    if (config.name == "constant") {
        return 1.0;
    }
    const double rest = std::max(1.0, static_cast<double>(steps) - warmup);
    if (config.name == "linear") {
        return std::max(0.0, (static_cast<double>(steps) - now) / rest);
    }
    return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * (now - warmup) / rest)));
}

AdamW::AdamW(std::map<std::string, at::Tensor> parameters, const OptimizerConfig& config,
             double head_learning_rate)
    : parameters_(std::move(parameters)), config_(config), groups_(2) {
    groups_[0].learning_rate = config.learning_rate;
    groups_[1].learning_rate = head_learning_rate;
    for (const auto& [name, value] : parameters_) {
        TORCH_CHECK(value.scalar_type() == at::kFloat, "AdamW wants float32 parameters: ", name);
        Group& group = groups_[name.rfind("heads.", 0) == 0 ? 1 : 0];
        group.names.push_back(name);
        group.values.push_back(value);
        group.exp_avg.push_back(at::zeros_like(value));
        group.exp_avg_sq.push_back(at::zeros_like(value));
        group.steps.push_back(at::zeros({}, value.options()));
    }
    std::erase_if(groups_, [](const Group& group) { return group.names.empty(); });
}

at::Tensor AdamW::step(double factor, const at::Tensor& healthy) {
    const at::NoGradGuard no_grad;
    std::vector<kernels::AdamWGroup> groups;
    std::vector<at::Tensor> all;
    for (const Group& group : groups_) {
        groups.push_back({group.learning_rate * factor,
                          group.values,
                          {},
                          group.exp_avg,
                          group.exp_avg_sq,
                          group.steps});
        for (const at::Tensor& value : group.values) {
            // A tensor that no sample of this step reached still decays and moves by its momentum.
            const at::Tensor grad =
                value.grad().defined() ? value.grad().contiguous() : at::zeros_like(value);
            TORCH_CHECK(grad.scalar_type() == at::kFloat, "a gradient is not float32");
            groups.back().grads.push_back(grad);
            all.push_back(grad);
        }
    }
    const at::Tensor norm = at::stack(at::_foreach_norm(all, 2)).norm();  // []
    const at::Tensor finite = at::isfinite(norm).logical_and(at::isfinite(healthy));
    at::Tensor clip;
    if (config_.max_grad_norm > 0) {
        clip = (config_.max_grad_norm / (norm + kClipEpsilon)).clamp_max(1.0);
    }
    kernels::adamw_(groups, {config_.betas[0], config_.betas[1], config_.eps, config_.weight_decay},
                    clip, finite.logical_not().to(at::kFloat));
    for (auto& [name, value] : parameters_) {
        value.mutable_grad().reset();
    }
    return norm;
}

tensor_io::TensorMap AdamW::state() const {
    tensor_io::TensorMap state;
    for (const Group& group : groups_) {
        for (std::size_t i = 0; i < group.names.size(); ++i) {
            state["exp_avg." + group.names[i]] = group.exp_avg[i];
            state["exp_avg_sq." + group.names[i]] = group.exp_avg_sq[i];
            state["step." + group.names[i]] = group.steps[i];
        }
    }
    return state;
}

void AdamW::load_state(const tensor_io::TensorMap& state, const std::string& file) {
    const at::NoGradGuard no_grad;
    const tensor_io::TensorMap own = this->state();
    std::vector<std::string> faults;
    for (const auto& [key, into] : own) {
        const auto found = state.find(key);
        if (found == state.end()) {
            faults.push_back(file + ": " + key + " is missing");
        } else if (found->second.sizes() != into.sizes()) {
            faults.push_back(file + ": " + key + " has shape " + shape_text(found->second.sizes()) +
                             ", expected " + shape_text(into.sizes()));
        }
    }
    for (const auto& [key, tensor] : state) {
        if (own.count(key) == 0) {
            faults.push_back(file + ": " + key + " is of a tensor that this run does not train");
        }
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
    for (const auto& [key, into] : own) {
        into.copy_(state.at(key));
    }
}

}  // namespace matrix::train
