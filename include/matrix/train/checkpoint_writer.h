#pragma once

#include "matrix/train/checkpoint.h"

#include <atomic>
#include <functional>
#include <future>

namespace matrix::train {

/// What a checkpoint will hold, as copies in host memory that no later step changes.
struct Snapshot {
    std::map<std::string, at::Tensor> trained;
    lora::AdapterInfo info;
    tensor_io::TensorMap optimizer;
    TrainState state;

    /// Copies every tensor on the calling thread; of those on a GPU it waits for what the current
    /// stream has still to do.
    [[nodiscard]] static Snapshot take(const std::map<std::string, at::Tensor>& trained,
                                       const lora::AdapterInfo& info,
                                       const tensor_io::TensorMap& optimizer,
                                       const TrainState& state);
};

/// Writes a run's checkpoints on a thread of its own, one at a time, while training goes on; then
/// deletes those that are not to be kept. The step comes from the snapshot. A checkpoint is
/// complete or absent at every moment (`save_checkpoint`); a write that fails leaves nothing of
/// itself and deletes nothing.
class CheckpointWriter {
public:
    /// With `best`, scores in the snapshots are of its metric, and the best one is kept.
    CheckpointWriter(std::filesystem::path run, std::int64_t keep_last,
                     std::optional<BestRule> best);
    /// Waits for the write in progress; an error that nobody has asked for goes to the log.
    ~CheckpointWriter();
    CheckpointWriter(const CheckpointWriter&) = delete;
    CheckpointWriter& operator=(const CheckpointWriter&) = delete;

    /// Hands over once the previous write is done. Throws that one's error, and then writes nothing
    /// of this snapshot. `before` is called on the writer's thread before the checkpoint gets its
    /// name: what must not be missing beside it is synced there; if it throws, there is no
    /// checkpoint.
    void write(Snapshot snapshot, std::function<void()> before);
    /// Until the last write is done; throws its error (RunError: disk full, no permission), once.
    void wait();
    /// Whether the last write has failed and its error not been thrown yet. Does not wait.
    [[nodiscard]] bool failed() const { return failed_; }

private:
    void write_now(const Snapshot& snapshot, const std::function<void()>& before) const;

    std::filesystem::path run_;
    std::int64_t keep_last_;
    std::optional<BestRule> best_;
    std::atomic<bool> failed_{false};
    std::future<void> running_;
};

}  // namespace matrix::train
