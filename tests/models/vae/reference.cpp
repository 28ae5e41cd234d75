#include "models/vae/reference.h"

#include "matrix/tensor_io/safetensors.h"
#include "matrix/tensor_io/weights.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace matrix::models::testing {
namespace {

std::uint64_t fnv1a(const std::string& name) {
    std::uint64_t hash = 0xCBF29CE484222325;
    for (const char c : name) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
    }
    return hash;
}

std::uint64_t splitmix(std::uint64_t z) {
    z += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

}  // namespace

at::Tensor uniform(const std::string& name, at::IntArrayRef shape) {
    at::Tensor values = at::empty(shape, at::kFloat);
    const std::uint64_t seed = fnv1a(name);
    for (std::int64_t i = 0; i < values.numel(); ++i) {
        const auto bits = splitmix(seed + static_cast<std::uint64_t>(i)) >> 40;
        values.data_ptr<float>()[i] = std::ldexp(static_cast<float>(bits), -23) - 1.0F;
    }
    return values;
}

at::Tensor weight(const std::string& name, at::IntArrayRef shape) {
    if (shape.size() > 1) {
        const double fan_in = static_cast<double>(c10::multiply_integers(shape.slice(1)));
        return uniform(name, shape) * std::exp2(std::nearbyint(std::log2(std::sqrt(3.0 / fan_in))));
    }
    return name.ends_with("weight") ? uniform(name, shape) * 0.5 + 1.0
                                    : uniform(name, shape) * 0.25;
}

std::string fixture(const std::string& name) {
    return std::string(MATRIX_FIXTURES) + "/vae/" + name;
}

VaeConfig fixture_config(const std::string& name) {
    return VaeConfig::from_file(fixture(name + ".json"));
}

at::Tensor expected(const std::string& name) {
    return tensor_io::SafetensorsFile(fixture("moments.safetensors")).tensor(name);
}

at::Tensor expected_video(const std::string& name) {
    return tensor_io::SafetensorsFile(fixture("videos.safetensors")).tensor(name);
}

VaeEncoder make_encoder(const VaeConfig& config) {
    tensor_io::GeneratedWeights weights(weight);
    return VaeEncoder(config, weights);
}

VaeEncoder make_encoder(const std::string& config_name) {
    return make_encoder(fixture_config(config_name));
}

VaeDecoder make_decoder(const std::string& config_name) {
    tensor_io::GeneratedWeights weights(weight);
    return VaeDecoder(fixture_config(config_name), weights);
}

double relative_error(const at::Tensor& got, const at::Tensor& reference) {
    if (got.sizes() != reference.sizes() || got.scalar_type() != reference.scalar_type()) {
        return std::numeric_limits<double>::infinity();
    }
    return ((got - reference).abs().max() / reference.abs().max()).item<double>();
}

}  // namespace matrix::models::testing
