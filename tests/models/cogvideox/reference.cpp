#include "models/cogvideox/reference.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "matrix/tensor_io/safetensors.h"
#include "support/temp_directory.h"

namespace matrix::models::testing {
namespace {

using tensor_io::SafetensorsFile;

const std::string kDirectory = std::string(MATRIX_FIXTURES) + "/transformer/";
constexpr double kLoraScale = 0.75;  // as in the script

}  // namespace

CogVideoXConfig fixture_config(const std::string& kind) {
    std::ifstream stream(kDirectory + "configs.json");
    const test::TempDirectory directory;
    std::ofstream(directory / "config.json") << nlohmann::json::parse(stream).at(kind).dump();
    return CogVideoXConfig::from_file(directory / "config.json");
}

CogVideoXTransformer fixture_model(const std::string& kind, at::ScalarType dtype) {
    const SafetensorsFile file(kDirectory + "weights.safetensors");
    tensor_io::GeneratedWeights weights([&](const std::string& key, at::IntArrayRef shape) {
        const std::string own = kind + "/" + key;
        const at::Tensor tensor = file.tensor(file.contains(own) ? own : key).to(dtype);
        TORCH_CHECK(tensor.sizes() == shape, key, " is stored as ", tensor.sizes(), ", wanted ",
                    shape);
        return tensor;
    });
    return {fixture_config(kind), weights};
}

Case fixture_case(const std::string& name) {
    const SafetensorsFile file(kDirectory + "results.safetensors");
    Case values;
    for (const std::string& key : file.keys()) {
        if (key.rfind(name + "/", 0) == 0) {
            values[key.substr(name.size() + 1)] = file.tensor(key);
        }
    }
    return values;
}

BackboneInput input_of(const Case& values) {
    return {values.at("hidden_states"), values.at("encoder_hidden_states"), values.at("timestep")};
}

Differentiated differentiate(const CogVideoXTransformer& model, const Case& values,
                             const ForwardOptions& options, const std::vector<at::Tensor>& leaves) {
    BackboneInput input = input_of(values);
    input.hidden_states = input.hidden_states.to(model.dtype()).clone().set_requires_grad(true);
    input.encoder_hidden_states =
        input.encoder_hidden_states.to(model.dtype()).clone().set_requires_grad(true);
    std::vector<at::Tensor> wanted = {input.hidden_states, input.encoder_hidden_states};
    wanted.insert(wanted.end(), leaves.begin(), leaves.end());

    const BackboneOutput output = model.forward(input, options);
    std::vector<at::Tensor> roots = {output.sample},
                            seeds = {values.at("cotangent").to(model.dtype())};
    for (const auto& [block, tap] : output.tap_outputs) {
        roots.push_back(tap);
        seeds.push_back(at::ones_like(tap));
    }
    return {output.sample.detach(), output.tap_outputs,
            torch::autograd::grad(roots, wanted, seeds)};
}

std::map<std::string, at::Tensor> attach_fixture_lora(CogVideoXTransformer& model) {
    std::map<std::string, at::Tensor> leaves;
    const Case values = fixture_case("lora");
    for (const auto& [name, linear] : model.adaptable_linears()) {
        const auto a = values.find(name + ".lora_A.weight");
        if (a == values.end()) {
            continue;
        }
        linear->delta = nn::LowRankDelta{
            a->second.clone().set_requires_grad(true),
            values.at(name + ".lora_B.weight").clone().set_requires_grad(true), kLoraScale};
        leaves[name + ".lora_A.weight"] = linear->delta->a;
        leaves[name + ".lora_B.weight"] = linear->delta->b;
    }
    return leaves;
}

}  // namespace matrix::models::testing
