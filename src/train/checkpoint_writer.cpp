#include "matrix/train/checkpoint_writer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "matrix/core/error.h"
#include "matrix/log/log.h"

namespace matrix::train {
namespace {

std::map<std::string, at::Tensor> copies(const std::map<std::string, at::Tensor>& tensors) {
    std::map<std::string, at::Tensor> result;
    for (const auto& [name, tensor] : tensors) {
        result[name] = tensor.detach().to(at::kCPU, tensor.scalar_type(), /*non_blocking=*/false,
                                          /*copy=*/true);
    }
    return result;
}

}  // namespace

Snapshot Snapshot::take(const std::map<std::string, at::Tensor>& trained,
                        const lora::AdapterInfo& info, const tensor_io::TensorMap& optimizer,
                        const TrainState& state) {
    const at::NoGradGuard no_grad;
    return {copies(trained), info, copies(optimizer), state};
}

CheckpointWriter::CheckpointWriter(std::filesystem::path run, std::int64_t keep_last,
                                   std::optional<BestRule> best)
    : run_(std::move(run)), keep_last_(keep_last), best_(std::move(best)) {}

CheckpointWriter::~CheckpointWriter() {
    try {
        wait();
    } catch (const std::exception& error) {
        // Something else ends the run, and this may be why it cannot go on from where it was.
        log::error(std::string("the last checkpoint was not written: ") + error.what());
    }
}

void CheckpointWriter::write(Snapshot snapshot, std::function<void()> before) {
    wait();
    if (best_ && snapshot.state.score) {
        snapshot.state.score_metric = best_->metric;
    }
    running_ = std::async(std::launch::async, [this, handed_over = std::move(snapshot),
                                               before = std::move(before)]() mutable {
        // A future keeps its function until it is replaced, which must not keep these copies.
        const Snapshot copies = std::move(handed_over);
        try {
            write_now(copies, before);
        } catch (...) {
            failed_ = true;
            throw;
        }
    });
}

void CheckpointWriter::wait() {
    if (running_.valid()) {
        running_.wait();
        failed_ = false;
        running_.get();
    }
}

void CheckpointWriter::write_now(const Snapshot& snapshot,
                                 const std::function<void()>& before) const {
    const std::filesystem::path directory = checkpoint_directory(run_, snapshot.state.step);
    try {
        save_checkpoint(directory, snapshot.trained, snapshot.info, snapshot.optimizer,
                        snapshot.state, before);
        prune_checkpoints(run_, keep_last_, best_);
    } catch (const std::filesystem::filesystem_error& error) {
        throw RunError(directory.string() +
                       ": cannot write the checkpoint: " + error.code().message());
    }
}

}  // namespace matrix::train
