#include "matrix/kernels/linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "matrix/kernels/fp8.h"

namespace matrix::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::size_t kSavedPerMap = 5;  // weight, its scale, a, b, low

at::Tensor as_rows(const at::Tensor& x) {
    return x.reshape({-1, x.size(-1)});
}

at::Tensor as_type(const at::Tensor& t, const at::Tensor& like) {
    return t.to(like.scalar_type());
}

std::vector<std::int64_t> with_last(at::IntArrayRef shape, std::int64_t last) {
    std::vector<std::int64_t> sizes = shape.vec();
    sizes.back() = last;
    return sizes;
}

/// What gradients multiply by.
at::Tensor wide(const at::Tensor& weight, const at::Tensor& scale, const at::Tensor& like) {
    return scale.defined() ? widened({weight, scale}, like.scalar_type()) : as_type(weight, like);
}

/// x a^T over rows.
at::Tensor low_product(const at::Tensor& rows, const at::Tensor& a) {
    return at::mm(rows, as_type(a, rows).t());
}

LinearResult run(const at::Tensor& x, const std::vector<LinearMap>& maps) {
    const at::Tensor rows = as_rows(x);
    Fp8Rows narrow;  // the rows, for all weights at rest in float8
    LinearResult result;
    for (const LinearMap& map : maps) {
        const at::Tensor bias = map.bias.defined() ? as_type(map.bias, rows) : at::Tensor();
        at::Tensor y;
        if (map.weight_scale.defined()) {
            if (!narrow.values.defined()) {
                narrow = fp8_rows(rows);
            }
            y = at::empty({rows.size(0), map.weight.size(0)}, rows.options());
            fp8_product_out(y, narrow, {map.weight, map.weight_scale}, bias);
        } else {
            const at::Tensor weight = as_type(map.weight, rows).t();
            y = bias.defined() ? at::addmm(bias, rows, weight) : at::mm(rows, weight);
        }
        at::Tensor low;
        if (map.a.defined()) {
            low = low_product(rows, map.a);
            y.addmm_(low, as_type(map.b, rows).t(), 1.0, map.scale);
        }
        result.outputs.push_back(y.view(with_last(x.sizes(), y.size(1))));
        result.low.push_back(low);
    }
    return result;
}

/// sum + scale * m1 m2, where there may be no sum yet.
void accumulate(at::Tensor& sum, const at::Tensor& m1, const at::Tensor& m2, double scale) {
    if (sum.defined()) {
        sum.addmm_(m1, m2, 1.0, scale);
    } else {
        sum = at::mm(m1, m2);
    }
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
    /// `factors` are every a and b, which are in the graph by being arguments.
    static variable_list forward(AutogradContext* ctx, const at::Tensor& x,
                                 [[maybe_unused]] at::TensorList factors,
                                 const std::vector<LinearMap>& maps, const LinearResult& result) {
        bool reads_input = false;
        variable_list saved = {at::Tensor()}, outputs;
        std::vector<double> scales;
        for (std::size_t i = 0; i < maps.size(); ++i) {
            const LinearMap& map = maps[i];
            const at::Tensor& low = result.low[i];
            saved.insert(saved.end(), {map.weight, map.weight_scale, map.a, map.b, low});
            scales.push_back(map.scale);
            reads_input = reads_input ||
                          (map.a.defined() &&
                           (map.a.requires_grad() || (map.b.requires_grad() && !low.defined())));
            // An alias: autograd must not see a kept tensor itself become an output of two calls.
            outputs.push_back(result.outputs[i].alias());
        }
        if (reads_input) {
            saved[0] = x;
        }
        ctx->save_for_backward(saved);
        ctx->saved_data["scales"] = scales;
        ctx->set_materialize_grads(false);
        return outputs;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const variable_list saved = ctx->get_saved_variables();
        const std::vector<double> scales = ctx->saved_data["scales"].toDoubleVector();
        const at::Tensor rows = saved[0].defined() ? as_rows(saved[0]) : at::Tensor();
        const bool wants_x = ctx->needs_input_grad(0);
        at::Tensor grad_x;
        std::vector<std::int64_t> shape;
        variable_list result = {at::Tensor()};
        for (std::size_t i = 0; i < grads.size(); ++i) {
            const auto* const of_map = saved.data() + 1 + kSavedPerMap * i;
            const at::Tensor &weight = of_map[0], &weight_scale = of_map[1], &a = of_map[2],
                             &b = of_map[3], &low = of_map[4];
            at::Tensor grad_a, grad_b;
            if (grads[i].defined()) {
                const at::Tensor grad = as_rows(grads[i]);
                shape = with_last(grads[i].sizes(), weight.size(1));
                if (wants_x) {
                    accumulate(grad_x, grad, wide(weight, weight_scale, grad), 1.0);
                }
                if (a.defined() && (wants_x || a.requires_grad())) {
                    const at::Tensor grad_low = at::mm(grad, as_type(b, grad));  // [rows, r]
                    if (wants_x) {
                        accumulate(grad_x, grad_low, as_type(a, grad), scales[i]);
                    }
                    if (a.requires_grad()) {
                        grad_a = as_type(at::mm(grad_low.t(), rows), a).mul_(scales[i]);
                    }
                }
                if (b.defined() && b.requires_grad()) {
                    const at::Tensor known = low.defined() ? low : low_product(rows, a);
                    grad_b = as_type(at::mm(grad.t(), known), b).mul_(scales[i]);
                }
            }
            if (a.defined()) {
                result.insert(result.end(), {grad_a, grad_b});
            }
        }
        if (grad_x.defined()) {
            result[0] = grad_x.view(shape);
        }
        result.resize(result.size() + 2);  // maps and result
        return result;
    }
};

}  // namespace

LinearResult linear(const at::Tensor& x, const std::vector<LinearMap>& maps,
                    const std::optional<LinearResult>& kept) {
    LinearResult result;
    {
        const at::NoGradGuard no_grad;
        result = kept ? *kept : run(x, maps);
    }
    TORCH_CHECK(result.outputs.size() == maps.size() && result.low.size() == maps.size(),
                "linear: kept results of ", result.outputs.size(), " maps for ", maps.size());
    std::vector<at::Tensor> factors;
    for (const LinearMap& map : maps) {
        if (map.a.defined()) {
            factors.insert(factors.end(), {map.a, map.b});
        }
    }
    return {LinearFunction::apply(x, at::TensorList(factors), maps, result), result.low};
}

at::Tensor shape_only(at::IntArrayRef shape, const at::TensorOptions& options) {
    return at::empty({1}, options).expand(shape);
}

}  // namespace matrix::kernels
