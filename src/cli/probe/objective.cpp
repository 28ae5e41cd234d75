#include <ATen/ATen.h>

#include <filesystem>
#include <memory>

#include "cli/probe/parts.h"
#include "matrix/alignment/objective.h"
#include "matrix/core/error.h"
#include "matrix/diffusion/noise_schedule.h"
#include "matrix/lora/adapter.h"
#include "matrix/models/cogvideox.h"
#include "matrix/train/checkpoint.h"
#include "matrix/train/optimizer.h"
#include "matrix/train/step.h"

namespace matrix::cli::probe {
namespace {

constexpr const char* kProjection = "patch_embed.proj";

/// UsageError unless the model can be aligned as the config says; needs no weights.
void check_alignment(const alignment::AlignmentConfig& config,
                     const models::CogVideoXConfig& model) {
    if (model.patch_size_t && (config.sga || config.spa)) {
        throw UsageError(
            "alignment: models with temporal patches (patch_size_t) have none; set alignment.sga "
            "and "
            "alignment.spa to null");
    }
    std::vector<std::string> faults = alignment::check(config, model.num_layers);
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
}

alignment::Supervision read_supervision(const Inputs& in, const alignment::AlignmentConfig& config,
                                        std::int64_t text_rows, at::IntArrayRef latents) {
    const std::int64_t batch = latents[0], frames = 4 * (latents[1] - 1) + 1;
    const std::int64_t height = latents[3], width = latents[4];
    // The number of interactions is that of whatever is read first; what no term uses is not asked
    // for.
    std::int64_t interactions = config.sga || config.spa ? -1 : 0;
    const auto read = [&](const char* name, bool used, std::vector<std::int64_t> shape) {
        shape.insert(shape.begin(), {batch, interactions});
        if (!used) {
            shape[1] = std::max<std::int64_t>(interactions, 0);
            return at::zeros(shape, at::kByte);
        }
        const at::Tensor mask = in.integers(name, shape, at::kByte).ne(0).to(at::kByte);
        interactions = mask.size(1);
        return mask;
    };
    alignment::Supervision s;
    s.masks = read("masks", config.sga || config.spa, {2, frames, 8 * height, 8 * width});
    s.token_mask = read("token_mask", config.sga.has_value(), {3, text_rows});
    s.query_mask = read("query_mask", config.spa.has_value(), {2, height / 2, width / 2});
    return s;
}

/// Latents stay float32 whatever the compute dtype, as in training: the noisy input is formed
/// before it is rounded.
train::Batch read_batch(const Inputs& in, const alignment::AlignmentConfig& config,
                        const models::CogVideoXConfig& model) {
    if (model.in_channels != 16 && model.in_channels != 32 && model.in_channels != 48) {
        throw RunError("transformer: a model with " + std::to_string(model.in_channels) +
                       " input channels takes no image latents (expected 16, 32 or 48)");
    }
    train::Batch batch;
    batch.latents = in.floating("latents", {-1, -1, 16, -1, -1}, at::kFloat);
    const at::IntArrayRef shape = batch.latents.sizes();
    if (batch.latents.numel() == 0) {
        in.fail("latents", "it is empty");
    }
    if (shape[3] % model.patch_size != 0 || shape[4] % model.patch_size != 0) {
        in.fail("latents", "its height and width must be multiples of patch_size, " +
                               std::to_string(model.patch_size));
    }
    batch.noise = in.floating("noise", shape, at::kFloat);
    batch.timestep = in.integers("timestep", {shape[0]}, at::kLong);
    if (model.in_channels >= 32) {
        batch.image_latents = in.floating("image_latents", shape, at::kFloat);
    }
    if (model.in_channels == 48) {
        batch.id_map_latents = in.floating("id_map_latents", shape, at::kFloat);
    }
    batch.encoder_hidden_states =
        in.floating("encoder_hidden_states", {shape[0], -1, model.text_embed_dim});
    batch.supervision = read_supervision(in, config, batch.encoder_hidden_states.size(1), shape);
    return batch;
}

/// Gradients are wanted of the base weight of the input projection, in float32, whatever a run
/// would train.
void make_trainable(nn::Linear& projection) {
    for (at::Tensor* tensor : {&projection.weight, &projection.bias}) {
        if (tensor->defined()) {
            *tensor = tensor->detach().to(at::kFloat).set_requires_grad(true);
        }
    }
}

/// Rank and strength of an adapter as the one pair that a checkpoint has.
lora::AdapterInfo checkpoint_info(const std::optional<lora::Adapter>& adapter,
                                  const models::CogVideoXConfig& model, const std::string& base) {
    lora::AdapterInfo info;
    if (adapter && !adapter->deltas.empty()) {
        const nn::LowRankDelta& first = adapter->deltas.begin()->second;
        for (const auto& [name, delta] : adapter->deltas) {
            if (delta.a.size(0) != first.a.size(0) || delta.scale != first.scale) {
                throw RunError("--save-checkpoint: a checkpoint has one rank and scale, and " +
                               name + " of the adapter differs from " +
                               adapter->deltas.begin()->first);
            }
        }
        info = adapter->info;
        info.rank = first.a.size(0);
        if (info.scale() != first.scale) {
            info.alpha = first.scale * static_cast<double>(info.rank);
            info.rslora = false;
        }
    }
    info.base = base;
    info.in_channels = model.in_channels;
    info.id_map = model.in_channels == 48;
    return info;
}

/// A directory that stands there already is replaced only if it is a checkpoint, or empty.
void check_replaceable(const std::string& directory) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    if (!fs::exists(directory, ignored) ||
        fs::exists(fs::path(directory) / "state.json", ignored) ||
        (fs::is_directory(directory, ignored) && fs::is_empty(directory, ignored))) {
        return;
    }
    throw RunError("--save-checkpoint: " + directory + " exists and is not a checkpoint");
}

/// What a run that starts from this adapter trains: its tensors, the heads, and the input
/// projection itself unless the adapter has a LoRA of it.
std::map<std::string, at::Tensor> trained_tensors(models::CogVideoXTransformer& model,
                                                  const alignment::Objective& objective) {
    std::map<std::string, at::Tensor> trained = lora::trained_parameters(model);
    if (model.input_projection().delta) {
        trained.erase(std::string("transformer.") + kProjection + ".weight");
        trained.erase(std::string("transformer.") + kProjection + ".bias");
    }
    const auto heads = objective.parameters();
    trained.insert(heads.begin(), heads.end());
    return trained;
}

void add_map(tensor_io::TensorMap& outputs, const std::string& name,
             const alignment::TermResult& term) {
    if (term.map.defined()) {
        outputs[name] = term.map;
    }
}

}  // namespace

Result run_objective(const Request& request) {
    const alignment::AlignmentConfig config = alignment_config(request, {"alignment"});
    check_replaceable(request.save_checkpoint);
    check_alignment(config, models::CogVideoXConfig::from_file(request.component("transformer") /
                                                               "config.json"));
    const Inputs in(request);
    const diffusion::NoiseSchedule schedule(diffusion::SchedulerConfig::from_file(
        request.component("scheduler") / "scheduler_config.json"));
    const auto model = models::load_cogvideox(request.model, request.dtype(), request.device());
    std::optional<lora::Adapter> adapter;
    if (!request.adapter.empty()) {
        adapter = lora::read_adapter(request.adapter);
        lora::attach(*model, *adapter, true);
    }
    make_trainable(model->input_projection());
    const train::Batch batch = read_batch(in, config, model->config());
    const auto objective = alignment::make_matrix_objective(
        config, request.seed, request.device(),
        request.heads == "nearest" ? alignment::HeadMode::kNearest : alignment::HeadMode::kDecoder);

    const train::BatchResult terms =
        train::run_batch(batch, *model, schedule, *objective, {.with_gradients = request.grad});

    Result result;
    const auto scalar = [](const at::Tensor& value) { return value.cpu().to(at::kDouble); };
    at::Tensor total = scalar(terms.denoise);
    result.outputs["loss.denoise"] = total;
    for (const alignment::TermResult& term : terms.alignment.terms) {
        const at::Tensor loss = scalar(term.loss);
        result.outputs["loss." + term.name] = loss;
        total = total + term.weight * loss;
        add_map(result.outputs, "map." + term.name, term);
    }
    result.outputs["loss.total"] = total;
    result.outputs["sample"] = terms.sample;
    if (request.grad) {
        std::map<std::string, at::Tensor> leaves = lora::trained_parameters(*model);
        leaves.merge(objective->parameters());
        for (const auto& [name, tensor] : leaves) {
            result.outputs["grad." + name] =
                tensor.grad().defined() ? tensor.grad() : at::zeros_like(tensor);
        }
    }
    if (!request.save_checkpoint.empty()) {
        const std::map<std::string, at::Tensor> trained = trained_tensors(*model, *objective);
        const lora::AdapterInfo info = checkpoint_info(adapter, model->config(), request.model);
        result.after = [trained, info, directory = request.save_checkpoint] {
            const train::AdamW optimizer(trained, {}, 0.0);
            train::save_checkpoint(directory, trained, info, optimizer.state(), {});
        };
    }
    return result;
}

}  // namespace matrix::cli::probe
