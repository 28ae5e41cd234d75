#include <ATen/ATen.h>

#include "cli/bench/training.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"

namespace matrix::cli::bench {
namespace {

namespace fs = std::filesystem;

/// As the step forms them (train/model_input.h), on the CPU.
tensor_io::TensorMap model_inputs(const train::Batch& batch,
                                  const diffusion::NoiseSchedule& schedule) {
    std::vector<at::Tensor> channels = {
        schedule.add_noise(batch.latents, batch.noise, batch.timestep)};
    for (const at::Tensor& condition : {batch.image_latents, batch.id_map_latents}) {
        if (condition.defined()) {
            channels.push_back(condition);
        }
    }
    return {{"hidden_states", at::cat(channels, 2)},
            {"encoder_hidden_states", batch.encoder_hidden_states},
            {"timestep", batch.timestep},
            {"velocity", schedule.velocity(batch.latents, batch.noise, batch.timestep)},
            {"token_mask", batch.supervision.token_mask},
            {"query_mask", batch.supervision.query_mask},
            {"masks", batch.supervision.masks}};
}

nlohmann::json term(bool on, const std::vector<std::int64_t>& blocks, double weight) {
    return on ? nlohmann::json{{"blocks", blocks}, {"weight", weight}} : nlohmann::json();
}

}  // namespace

void Training::write_inputs(const fs::path& directory) const {
    if (fs::exists(directory) && (!fs::is_directory(directory) || !fs::is_empty(directory))) {
        throw RunError(directory.string() + ": already exists and is not an empty directory");
    }
    const nlohmann::json facts = {
        {"shape", shape_.json()},
        {"batch", batch_size_},
        {"dtype", dtype_text(model_->dtype())},
        {"lora",
         {{"rank", lora_.rank},
          {"alpha", lora_.alpha},
          {"blocks", lora_.blocks},
          {"targets", lora_.targets},
          {"input_projection", lora_.input_projection}}},
        {"optimizer",
         {{"learning_rate", optimizer_config_.learning_rate},
          {"head_learning_rate", alignment_.head_learning_rate},
          {"betas", optimizer_config_.betas},
          {"eps", optimizer_config_.eps},
          {"weight_decay", optimizer_config_.weight_decay},
          {"max_grad_norm", optimizer_config_.max_grad_norm}}},
        {"alignment",
         {{"sga", term(alignment_.sga.present, alignment_.sga->blocks, alignment_.sga->weight)},
          {"spa", term(alignment_.spa.present, alignment_.spa->blocks, alignment_.spa->weight)},
          {"bce", alignment_.bce},
          {"dice", alignment_.dice},
          {"l2", alignment_.l2}}}};
    tensor_io::TensorMap inputs = model_inputs(batch_, schedule_);
    for (const auto& [name, value] : optimizer_.parameters()) {
        inputs[name] = value.detach();
    }
    write_directory_atomically(directory, [&](const fs::path& temporary) {
        write_file_atomically(temporary / "transformer/config.json",
                              shape_.config_json().dump(2) + "\n");
        tensor_io::write_safetensors(temporary / "transformer/diffusion_pytorch_model.safetensors",
                                     kept_weights_, {{"format", "pt"}});
        tensor_io::write_safetensors(temporary / "inputs.safetensors", inputs);
        write_file_atomically(temporary / "bench.json", facts.dump(2) + "\n");
    });
}

}  // namespace matrix::cli::bench
