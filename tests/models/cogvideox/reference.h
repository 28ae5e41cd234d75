#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "matrix/models/cogvideox.h"

// What scripts/fixtures/make_transformer.py stored.

namespace matrix::models::testing {

/// The configuration of a kind of model: "i2v", "id_map", "2b", "1.5", "bare".
[[nodiscard]] CogVideoXConfig fixture_config(const std::string& kind);
[[nodiscard]] CogVideoXTransformer fixture_model(const std::string& kind,
                                                 at::ScalarType dtype = at::kFloat);

/// Inputs and the reference's results of one case, by name.
using Case = std::map<std::string, at::Tensor>;
[[nodiscard]] Case fixture_case(const std::string& name);
[[nodiscard]] BackboneInput input_of(const Case& values);

/// A forward with fresh leaves, differentiated: `grads` holds those of hidden_states,
/// encoder_hidden_states and of `leaves`.
struct Differentiated {
    at::Tensor sample;
    std::map<std::int64_t, at::Tensor> tap_outputs;
    std::vector<at::Tensor> grads;
};
/// The scalar is sum(sample * cotangent) + the sum of all tap outputs.
[[nodiscard]] Differentiated differentiate(const CogVideoXTransformer& model, const Case& values,
                                           const ForwardOptions& options,
                                           const std::vector<at::Tensor>& leaves = {});

/// Low-rank factors of the case "lora", on the model's linears and requiring gradients; by key.
std::map<std::string, at::Tensor> attach_fixture_lora(CogVideoXTransformer& model);

}  // namespace matrix::models::testing
