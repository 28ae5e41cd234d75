#include "train/run_state.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/distributed/collective.h"
#include "matrix/train/batch_stream.h"

namespace matrix::train {
namespace {

std::map<std::string, at::Tensor> all_trained(const RunParts& parts) {
    std::map<std::string, at::Tensor> trained = lora::trained_parameters(parts.backbone);
    trained.merge(parts.objective.parameters());
    return trained;
}

std::string encoded(const TrainState& state) {
    return nlohmann::json{state.step, state.next_sample, state.global_batch, state.skipped}.dump();
}

TrainState decoded(const std::string& text) {
    const nlohmann::json json = nlohmann::json::parse(text);
    TrainState state;
    state.step = json[0];
    state.next_sample = json[1];
    state.global_batch = json[2];
    state.skipped = json[3].get<std::vector<SampleRange>>();
    return state;
}

}  // namespace

RunState::RunState(const RunParts& parts, const RunSettings& settings)
    : trained(all_trained(parts)),
      optimizer(trained, settings.optimizer, settings.head_learning_rate),
      parts_(parts) {}

std::vector<at::Tensor> RunState::tensors() const {
    std::vector<at::Tensor> all;
    for (const auto& [name, tensor] : trained) {
        all.push_back(tensor);
    }
    for (const auto& [name, tensor] : optimizer.state()) {
        all.push_back(tensor);
    }
    return all;
}

void RunState::load(const std::filesystem::path& checkpoint) {
    const auto read = [&] {
        check_deltas(checkpoint);
        const LoadedCheckpoint loaded = load_checkpoint(checkpoint, trained);
        optimizer.load_state(loaded.optimizer, (checkpoint / "optimizer.safetensors").string());
        return encoded(loaded.state);
    };
    position = decoded(distributed::from_rank_0(parts_.ranks.all, read, "reading the checkpoint"));
}

void RunState::share() {
    distributed::broadcast_tensors(parts_.ranks.all, tensors(), 0, "trained tensors of rank 0");
}

void RunState::verify(const std::string& when) const {
    if (parts_.ranks.all.world_size() == 1) {
        return;
    }
    std::string bytes;
    for (const at::Tensor& tensor : tensors()) {
        const at::Tensor host = tensor.detach().cpu().contiguous();
        bytes += hash_text({static_cast<const char*>(host.const_data_ptr()), host.nbytes()});
    }
    distributed::check_equal(parts_.ranks.all,
                             {{"trained tensors and optimizer", hash_text(bytes)}}, when);
}

void RunState::check_deltas(const std::filesystem::path& checkpoint) const {
    const bool has_deltas = std::ranges::any_of(trained, [](const auto& entry) {
        return entry.first.find(".lora_A.") != std::string::npos;
    });
    if (!has_deltas) {
        return;
    }
    const lora::AdapterInfo found = lora::read_adapter(checkpoint).info;
    const lora::AdapterInfo& wanted = parts_.adapter_info;
    const auto differs = [&](const std::string& field, const std::string& there,
                             const std::string& here) {
        if (there != here) {
            throw RunError(checkpoint.string() + ": trained with lora." + field + " = " + there +
                           ", this run's is " + here);
        }
    };
    differs("rank", std::to_string(found.rank), std::to_string(wanted.rank));
    differs("alpha", nlohmann::json(found.alpha).dump(), nlohmann::json(wanted.alpha).dump());
    differs("rslora", nlohmann::json(found.rslora).dump(), nlohmann::json(wanted.rslora).dump());
}

}  // namespace matrix::train
