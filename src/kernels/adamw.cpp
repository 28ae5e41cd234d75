#include "matrix/kernels/adamw.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kernels/pass/adamw.h"
#include "kernels/pass/run.h"
#include "kernels/pass/tensors.h"
#include "kernels/self_check.h"

namespace matrix::kernels {
namespace {

using Groups = std::vector<AdamWGroup>;

void check(const AdamWGroup& group) {
    for (std::size_t i = 0; i < group.values.size(); ++i) {
        for (const auto* const all :
             {&group.values, &group.grads, &group.exp_avg, &group.exp_avg_sq}) {
            TORCH_CHECK(all->size() == group.values.size(), "adamw_ wants as many of each tensor");
            const at::Tensor& t = (*all)[i];
            TORCH_CHECK(t.scalar_type() == at::kFloat && t.is_contiguous() &&
                            t.sizes() == group.values[i].sizes(),
                        "adamw_ wants contiguous float32 of ", group.values[i].sizes(), ", got ",
                        t.scalar_type(), " ", t.sizes());
        }
    }
    TORCH_CHECK(group.steps.size() == group.values.size(), "adamw_ wants a step a tensor");
}

void composed(const Groups& groups, const AdamWFactors& f, const at::Tensor& clip,
              const at::Tensor& skip) {
    for (const AdamWGroup& group : groups) {
        if (clip.defined()) {
            at::_foreach_mul_(group.grads, clip);
        }
        at::_foreach_add_(group.steps, 1);
        at::_fused_adamw_(group.values, group.grads, group.exp_avg, group.exp_avg_sq, {},
                          group.steps, group.learning_rate, f.beta1, f.beta2, f.weight_decay, f.eps,
                          false, false, {}, skip);
        at::_foreach_sub_(group.steps, std::vector<at::Tensor>(group.steps.size(), skip));
    }
}

void in_one_launch(const Groups& groups, const AdamWFactors& f, const at::Tensor& clip,
                   const at::Tensor& skip) {
    pass::AdamW a{};
    a.eps = static_cast<float>(f.eps);
    a.weight_decay = static_cast<float>(f.weight_decay);
    a.beta1 = f.beta1;
    a.beta2 = f.beta2;
    a.clip = clip.defined() ? pass::data<const float>(clip) : nullptr;
    a.skip = pass::data<const float>(skip);
    std::int64_t blocks = 0;
    const auto launch_all = [&] {
        pass::launch_rows(skip, a, blocks);
        a.count = 0;
        blocks = 0;
    };
    for (const AdamWGroup& group : groups) {
        for (std::size_t i = 0; i < group.values.size(); ++i) {
            const std::int64_t size = group.values[i].numel();
            if (size == 0) {
                continue;
            }
            if (a.count == pass::kMostAdamWTensors) {
                launch_all();
            }
            a.tensors[a.count++] = {.value = pass::data<float>(group.values[i]),
                                    .grad = pass::data<const float>(group.grads[i]),
                                    .exp_avg = pass::data<float>(group.exp_avg[i]),
                                    .exp_avg_sq = pass::data<float>(group.exp_avg_sq[i]),
                                    .step = pass::data<const float>(group.steps[i]),
                                    .size = size,
                                    .first_block = static_cast<std::int32_t>(blocks),
                                    .learning_rate = static_cast<float>(group.learning_rate)};
            blocks += (size + pass::kAdamWBlock - 1) / pass::kAdamWBlock;
        }
    }
    launch_all();
    const at::Tensor taken = 1 - skip;
    for (const AdamWGroup& group : groups) {
        at::_foreach_add_(group.steps, std::vector<at::Tensor>(group.steps.size(), taken));
    }
}

Comparison compare_adamw(const at::TensorOptions& options) {
    std::vector<Groups> twice(2);
    for (Groups& groups : twice) {
        for (const std::int64_t size : {5, 20'000}) {
            const auto random = [&](std::uint64_t seed) {
                return std::vector{check_values(size, options, seed)};
            };
            groups.push_back({1e-2,
                              random(1),
                              random(2),
                              random(3),
                              {random(4)[0].square()},
                              {at::full({}, 7, options)}});
        }
    }
    const AdamWFactors factors{0.9, 0.95, 1e-8, 0.1};
    const at::Tensor clip = at::full({}, 0.5, options), skip = at::zeros({}, options);
    in_one_launch(twice[0], factors, clip, skip);
    composed(twice[1], factors, clip, skip);
    const auto results = [](const Groups& groups) {
        std::vector<at::Tensor> all;
        for (const AdamWGroup& g : groups) {
            all.insert(all.end(), {g.values[0], g.exp_avg[0], g.exp_avg_sq[0], g.steps[0]});
        }
        return all;
    };
    return {results(twice[0]), results(twice[1])};
}

}  // namespace

void adamw_(const std::vector<AdamWGroup>& groups, const AdamWFactors& factors,
            const at::Tensor& clip, const at::Tensor& skip) {
    const at::AutoGradMode grad_mode(false);
    for (const AdamWGroup& group : groups) {
        check(group);
    }
    if (pass::are_launched_on(skip) && has_passes(skip, "AdamW", compare_adamw)) {
        in_one_launch(groups, factors, clip, skip);
    } else {
        composed(groups, factors, clip, skip);
    }
}

}  // namespace matrix::kernels
