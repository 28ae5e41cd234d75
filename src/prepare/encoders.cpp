#include "matrix/prepare/encoders.h"

#include "matrix/core/shape.h"
#include "matrix/models/t5.h"
#include "matrix/models/vae.h"
#include "matrix/tensor_io/weights.h"

#include <ATen/ATen.h>

#include <memory>

namespace matrix::prepare {
namespace {

namespace fs = std::filesystem;

Encode load_t5(const fs::path& directory, at::ScalarType dtype, at::Device device) {
    const auto config = models::T5Config::from_file(directory / "config.json");
    tensor_io::FileWeights weights(directory, "model", dtype, device);
    const auto encoder = std::make_shared<models::T5Encoder>(config, weights);
    return [encoder](const at::Tensor& input_ids) { return encoder->forward(input_ids).cpu(); };
}

Encode load_vae(const fs::path& directory, at::ScalarType dtype, at::Device device) {
    const auto config = models::VaeConfig::from_file(directory / "config.json");
    tensor_io::FileWeights weights(directory, "diffusion_pytorch_model", dtype, device);
    const auto encoder = std::make_shared<models::VaeEncoder>(config, weights);
    return [encoder, dtype, device](const at::Tensor& video) {
        const at::Tensor moments =
            encoder->encode(video.unsqueeze(0).to(device, dtype));  // [1, 2C, F, h, w]
        return moments.squeeze(0).to(at::kCPU, at::kFloat);
    };
}

}  // namespace

Encoders model_encoders(const fs::path& model, at::ScalarType dtype, at::Device device) {
    return {
        .ids =
            [=](data_cache::FileHashes& hashes) {
                return data_cache::encoder_ids(model, dtype_text(dtype), hashes);
            },
        .load_text = [=] { return load_t5(model / "text_encoder", dtype, device); },
        .load_video = [=] { return load_vae(model / "vae", dtype, device); },
    };
}

}  // namespace matrix::prepare
