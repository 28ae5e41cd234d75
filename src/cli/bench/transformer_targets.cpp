#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "cli/bench/targets.h"
#include "cli/bench/training.h"
#include "matrix/kernels/attention.h"

// B batch, H heads, S rows of the joint sequence, d head width.

namespace matrix::cli::bench {
namespace {

nlohmann::json facts_of(const Request& request, const Shape& shape) {
    return {{"shape", shape.json()}, {"batch", request.batch}};
}

at::Tensor random_heads(const Request& request, const Shape& shape) {
    return at::randn({request.batch, shape.heads, shape.tokens(), shape.head_dim},
                     at::TensorOptions(request.device()).dtype(request.dtype()))
        .requires_grad_(true);
}

}  // namespace

Work prepare_forward(const Request& request) {
    const Shape shape = request.shape();
    const at::TensorOptions options = at::TensorOptions(request.device()).dtype(request.dtype());
    models::BackboneInput input;
    input.hidden_states = at::randn(
        {request.batch, shape.frames, shape.channels, shape.height, shape.width}, options);
    input.encoder_hidden_states = at::randn({request.batch, shape.text, shape.text_width}, options);
    input.timestep = at::full({request.batch}, 500, options.dtype(at::kLong));
    const std::shared_ptr<models::CogVideoXTransformer> model =
        random_model(shape, request.seed, request.dtype(), request.device());
    return {[model, input] {
                const at::NoGradGuard no_grad;
                static_cast<void>(model->forward(input, {}));
            },
            facts_of(request, shape)};
}

Work prepare_attention(const Request& request) {
    const Shape shape = request.shape();
    const at::Tensor q = random_heads(request, shape), k = random_heads(request, shape),
                     v = random_heads(request, shape);
    const double scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
    return {[q, k, v, scale, seed = at::randn_like(q)] {
                const at::Tensor output = kernels::attention(q, k, v, scale).output;
                static_cast<void>(torch::autograd::grad({output}, {q, k, v}, {seed}));
            },
            facts_of(request, shape)};
}

Work prepare_readout(const Request& request) {
    const Shape shape = request.shape();
    alignment::AlignmentConfig config;
    config.sga->blocks = config.spa->blocks = {0};
    const std::shared_ptr<alignment::Objective> objective =
        alignment::make_matrix_objective(config, request.seed, request.device());
    const alignment::Supervision supervision =
        random_batch(shape, request.batch, request.seed, true).supervision;
    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, shape.text, shape.frames,
                                 shape.height / 2, shape.width / 2};
    const at::Tensor q = random_heads(request, shape), k = random_heads(request, shape);
    return {[=] {
                const nn::Tap tap = objective->taps(supervision).at(0);
                const at::Tensor map = tap(nn::TapInput{q, k, {}, layout});
                const alignment::Evaluation found =
                    objective->evaluate({{0, map}}, supervision, layout, 1.0, true);
                static_cast<void>(torch::autograd::grad(found.roots, {q, k}, found.root_gradients));
            },
            facts_of(request, shape)};
}

}  // namespace matrix::cli::bench
