#include "matrix/train/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/core/shape.h"
#include "train/checkpoint_state.h"

namespace matrix::train {
namespace {

namespace fs = std::filesystem;

template <typename Read>
auto with_advice(const Read& read) {
    try {
        return read();
    } catch (const OtherVersion&) {
        throw;
    } catch (const RunError& error) {
        throw RunError(std::string(error.what()) +
                       "; resume from another checkpoint, or with --resume auto, which passes "
                       "damaged ones over");
    }
}

}  // namespace

void save_checkpoint(const fs::path& directory, const std::map<std::string, at::Tensor>& trained,
                     const lora::AdapterInfo& info, const tensor_io::TensorMap& optimizer,
                     const TrainState& state, const std::function<void()>& before_rename) {
    write_directory_atomically(directory, [&](const fs::path& temporary) {
        lora::write_checkpoint_adapter(temporary / "adapter.safetensors", trained, info);
        tensor_io::write_safetensors(temporary / "optimizer.safetensors", optimizer);
        write_state(temporary, state);
        if (before_rename) {
            before_rename();
        }
    });
}

TrainState checkpoint_state(const fs::path& directory) {
    return with_advice([&] { return read_state(directory).state; });
}

LoadedCheckpoint load_checkpoint(const fs::path& directory,
                                 const std::map<std::string, at::Tensor>& trained) {
    LoadedCheckpoint loaded{with_advice([&] { return read_verified_state(directory).state; }), {}};
    const fs::path adapter_path = directory / "adapter.safetensors";
    const tensor_io::SafetensorsFile adapter(adapter_path);
    std::vector<std::string> faults;
    for (const auto& [name, tensor] : trained) {
        if (!adapter.contains(name)) {
            faults.push_back(adapter_path.string() + ": " + name +
                             " is missing, and this run trains it");
        } else if (adapter.shape(name) != tensor.sizes()) {
            faults.push_back(adapter_path.string() + ": " + name + " has shape " +
                             shape_text(adapter.shape(name)) + ", this run's has " +
                             shape_text(tensor.sizes()));
        }
    }
    for (const std::string& key : adapter.keys()) {
        if (trained.count(key) == 0) {
            faults.push_back(adapter_path.string() + ": " + key +
                             " is not trained by this run's configuration");
        }
    }
    if (!faults.empty()) {
        throw RunError(std::move(faults));
    }
    loaded.optimizer = tensor_io::SafetensorsFile(directory / "optimizer.safetensors").all();
    const at::NoGradGuard no_grad;
    for (const auto& [name, tensor] : trained) {
        tensor.detach().copy_(adapter.tensor(name));
    }
    return loaded;
}

}  // namespace matrix::train
