#include "cli/bench/training.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "cli/init/model_maker.h"
#include "matrix/core/error.h"
#include "matrix/core/random.h"
#include "matrix/lora/adapter.h"
#include "matrix/tensor_io/weights.h"

// B batch, F latent frames, C latent channels, h x w latents, L text rows, gh x gw cells.

namespace matrix::cli::bench {
namespace {

constexpr std::int64_t kLatentChannels = 16;
constexpr std::int64_t kCell = 16;  // pixels along a side
constexpr std::int64_t kEntities = 3;
constexpr double kSmall = 0.02;  // deviation of what training starts at zero

at::Tensor random_tensor(at::IntArrayRef shape, std::uint64_t seed, const std::string& name) {
    return keyed_normal(shape, seed, Purpose::kModelInit, name_key("bench." + name));
}

/// [B, F, C, h, w], zero after the first frame.
at::Tensor first_frame(const Shape& shape, std::int64_t batch, std::uint64_t seed,
                       const std::string& name) {
    at::Tensor latents =
        at::zeros({batch, shape.frames, kLatentChannels, shape.height, shape.width});
    latents.select(1, 0).copy_(
        random_tensor({batch, kLatentChannels, shape.height, shape.width}, seed, name));
    return latents;
}

/// Two instances, each a box somewhere in its half of the picture, and three runs of tokens.
alignment::Supervision two_boxes(const Shape& shape, std::int64_t batch, std::uint64_t seed) {
    const std::int64_t gh = shape.height / 2, gw = shape.width / 2;
    alignment::Supervision s;
    s.token_mask = at::zeros({batch, 1, kEntities, shape.text}, at::kByte);
    s.query_mask = at::zeros({batch, 1, 2, gh, gw}, at::kByte);
    s.masks =
        at::zeros({batch, 1, 2, 4 * (shape.frames - 1) + 1, kCell * gh, kCell * gw}, at::kByte);
    std::uint64_t draw = 0;
    const auto below = [&](std::int64_t bound) {
        return keyed_integer(std::max<std::int64_t>(bound, 1), seed, Purpose::kSynth, draw++);
    };
    const std::int64_t third = shape.text / kEntities;
    for (std::int64_t b = 0; b < batch; ++b) {
        for (std::int64_t e = 0; e < kEntities; ++e) {
            s.token_mask[b][0][e]
                .narrow(0, e * third, std::min<std::int64_t>(third, 1 + below(3)))
                .fill_(1);
        }
        for (std::int64_t e = 0; e < 2; ++e) {
            const std::int64_t half = std::max<std::int64_t>(gw / 2, 1);
            const std::int64_t tall = 1 + below(gh), wide = 1 + below(half);
            const std::int64_t top = below(gh - tall + 1);
            const std::int64_t left = std::min(e * half, gw - half) + below(half - wide + 1);
            s.query_mask[b][0][e].narrow(0, top, tall).narrow(1, left, wide).fill_(1);
            s.masks[b][0][e]
                .narrow(1, kCell * top, kCell * tall)
                .narrow(2, kCell * left, kCell * wide)
                .fill_(1);
        }
    }
    return s;
}

alignment::Supervision nothing_to_align(const Shape& shape, std::int64_t batch) {
    const std::int64_t gh = shape.height / 2, gw = shape.width / 2;
    return {
        at::zeros({batch, 0, kEntities, shape.text}, at::kByte),
        at::zeros({batch, 0, 2, gh, gw}, at::kByte),
        at::zeros({batch, 0, 2, 4 * (shape.frames - 1) + 1, kCell * gh, kCell * gw}, at::kByte)};
}

lora::LoraConfig lora_config(const Request& request, const Shape& shape) {
    lora::LoraConfig config;
    config.rank = request.rank;
    config.alpha = 0.5 * static_cast<double>(request.rank);
    config.blocks = parse_blocks(request.blocks, "--blocks", shape.layers, true);
    config.input_projection = request.input_projection;
    return config;
}

alignment::AlignmentConfig alignment_config(const Request& request, const Shape& shape) {
    alignment::AlignmentConfig config;
    config.sga.present = !request.sga_blocks.empty();
    config.spa.present = !request.spa_blocks.empty();
    if (config.sga) {
        config.sga->blocks = parse_blocks(request.sga_blocks, "--sga-blocks", shape.layers, false);
    }
    if (config.spa) {
        config.spa->blocks = parse_blocks(request.spa_blocks, "--spa-blocks", shape.layers, false);
    }
    if (config.sga && shape.text < kEntities) {
        throw UsageError("--shape: text=" + std::to_string(shape.text) +
                         " leaves no token for each of the three entities of --sga-blocks");
    }
    return config;
}

/// The run that a step would be of.
RunConfig run_config(const Request& request, const Shape& shape, const lora::LoraConfig& lora,
                     const alignment::AlignmentConfig& alignment) {
    RunConfig config;
    config.model.dtype = request.dtype_name;
    config.data.frames = 4 * (shape.frames - 1) + 1;
    config.data.height = 8 * shape.height;
    config.data.width = 8 * shape.width;
    config.data.id_map = shape.channels > 2 * kLatentChannels;
    config.train.batch_size = request.batch;
    config.lora = lora;
    config.alignment = alignment;
    config.memory.checkpointing = request.checkpointing == "on";
    if (request.activation_budget_gib > 0) {
        config.memory.activation_budget_gib = request.activation_budget_gib;
    }
    config.memory.base = request.base;
    config.memory.fp8_matmul = request.fp8_matmul;
    if (request.fp8_matmul && request.base != "fp8") {
        throw UsageError("--fp8-matmul: wants --base fp8, not " + request.base);
    }
    return config;
}

/// Small random values for what starts at zero, where it would make other gradients zero.
void leave_zero(const std::map<std::string, at::Tensor>& parameters, std::uint64_t seed) {
    const at::NoGradGuard no_grad;
    for (const auto& [name, tensor] : parameters) {
        if (name.find(".lora_B.") != std::string::npos || name.ends_with("conv_out.weight")) {
            tensor.copy_(random_tensor(tensor.sizes(), seed, name) * kSmall);
        }
    }
}

std::int64_t bytes_of(const tensor_io::TensorMap& tensors) {
    std::int64_t bytes = 0;
    for (const auto& [name, tensor] : tensors) {
        bytes += static_cast<std::int64_t>(tensor.nbytes());
    }
    return bytes;
}

}  // namespace

diffusion::NoiseSchedule training_schedule() {
    diffusion::SchedulerConfig config;
    config.snr_shift_scale = 1.0;
    config.rescale_betas_zero_snr = true;
    return diffusion::NoiseSchedule(config);
}

std::unique_ptr<models::CogVideoXTransformer> random_model(
    const Shape& shape, std::uint64_t seed, at::ScalarType dtype, at::Device device,
    tensor_io::TensorMap* kept, std::unique_ptr<models::BlockWeights> blocks) {
    const models::CogVideoXConfig config = shape.config();
    tensor_io::GeneratedWeights weights(random_transformer(config, seed, dtype, device));
    auto model = std::make_unique<models::CogVideoXTransformer>(config, weights, std::move(blocks));
    if (kept != nullptr) {
        *kept = weights.tensors();
    }
    return model;
}

train::Batch random_batch(const Shape& shape, std::int64_t batch, std::uint64_t seed,
                          bool supervised) {
    const std::vector<std::int64_t> sizes = {batch, shape.frames, kLatentChannels, shape.height,
                                             shape.width};
    train::Batch b;
    b.names.assign(static_cast<std::size_t>(batch), "random");
    b.latents = random_tensor(sizes, seed, "latents");
    b.noise = random_tensor(sizes, seed, "noise");
    if (shape.channels > kLatentChannels) {
        b.image_latents = first_frame(shape, batch, seed, "image");
    }
    if (shape.channels > 2 * kLatentChannels) {
        b.id_map_latents = first_frame(shape, batch, seed, "id_map");
    }
    b.encoder_hidden_states = random_tensor({batch, shape.text, shape.text_width}, seed, "prompt");
    b.timestep = at::empty({batch}, at::kLong);
    constexpr std::int64_t kTimesteps = 1000;
    for (std::int64_t i = 0; i < batch; ++i) {
        b.sample_numbers.push_back(i);
        b.timestep[i] =
            keyed_integer(kTimesteps, seed, Purpose::kTimestep, static_cast<std::uint64_t>(i));
    }
    b.supervision = supervised ? two_boxes(shape, batch, seed) : nothing_to_align(shape, batch);
    return b;
}

Training::Training(const Request& request)
    : shape_(request.shape()),
      batch_size_(request.batch),
      seed_(request.seed),
      lora_(lora_config(request, shape_)),
      alignment_(alignment_config(request, shape_)),
      plan_(memory_plan(run_config(request, shape_, lora_, alignment_), shape_.config(), 1, {})),
      schedule_(training_schedule()),
      model_(random_model(shape_, seed_, request.dtype(), request.device(),
                          request.write_inputs.empty() ? nullptr : &kept_weights_,
                          blocks_at(plan_))),
      objective_(alignment::make_matrix_objective(alignment_, seed_, request.device())),
      batch_(random_batch(shape_, batch_size_, seed_, alignment_.sga || alignment_.spa)),
      optimizer_(make_parameters(), optimizer_config_, alignment_.head_learning_rate),
      ranks_(train::Ranks::single()),
      gradients_(optimizer_.parameters(), ranks_.all) {}

std::map<std::string, at::Tensor> Training::make_parameters() const {
    lora::attach_new(*model_, lora_, seed_);
    std::map<std::string, at::Tensor> parameters = lora::trained_parameters(*model_);
    parameters.merge(objective_->parameters());
    leave_zero(parameters, seed_);
    return parameters;
}

train::StepResult Training::step() {
    train::StepOptions options;
    options.keep = plan_.keep;
    return train::training_step([&] { return batch_; },
                                {*model_, schedule_, *objective_, optimizer_, gradients_, ranks_},
                                options);
}

std::int64_t Training::weight_bytes() const {
    return plan_.bytes_of("weights");
}

std::int64_t Training::host_copy_bytes() const {
    return model_->device().is_cpu() ? plan_.host_weights : 0;
}

std::int64_t Training::trained_bytes() const {
    return bytes_of(optimizer_.parameters());
}

std::int64_t Training::optimizer_bytes() const {
    return bytes_of(optimizer_.state());
}

}  // namespace matrix::cli::bench
