#pragma once

#include "matrix/distributed/communicator.h"
#include "matrix/nn/sequence_group.h"

#include <cstdint>
#include <memory>

namespace matrix::train {

/// How the processes of a run share its work. `context` consecutive ranks are one replica: they
/// hold one clip's sequence together, so they see the same samples; replicas see different ones.
struct Ranks {
    distributed::Communicator& all;
    const nn::SequenceGroup* sequence = nullptr;  ///< of this replica; null for a replica of one
    int context = 1;
    bool sharded = false;  ///< whether each holds a share of the base, so that forwards take all

    /// Whether a forward is an exchange, so that no rank may run one alone.
    [[nodiscard]] bool forward_together() const { return sharded || sequence != nullptr; }
    [[nodiscard]] int replica() const { return all.rank() / context; }
    [[nodiscard]] int num_replicas() const { return all.world_size() / context; }
    /// Rank 0 alone writes the run's files.
    [[nodiscard]] bool is_main() const { return all.rank() == 0; }

    /// A run of one process.
    [[nodiscard]] static Ranks single();
};

/// The ranks of this one's replica, `context` consecutive ones of `all`; null for replicas of one.
/// All ranks call it, and `all` must outlive the result.
[[nodiscard]] std::unique_ptr<nn::SequenceGroup> make_sequence_group(distributed::Communicator& all,
                                                                     std::int64_t context);

}  // namespace matrix::train
