#pragma once

#include "matrix/distributed/communicator.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace matrix::train {

/// Bytes of one exchange: a block's factors at the paper's rank are 12.6 MB, so a bucket leaves
/// about once a block.
inline constexpr std::int64_t kBucketBytes = 8 << 20;

/// The gradients of a step, averaged over all ranks while backward still runs.
///
/// They lie in flat float32 buckets that the tensors' `.grad` point into, so nothing is copied:
/// heads first, whose gradients are complete before the backward begins, then tensors of the last
/// block to the first, then those of no block. A bucket's exchange starts when its last gradient is
/// complete and those before it have started, so that every rank has the same order whatever its
/// graph looks like. A tensor that no sample of a rank reached counts as zero there.
class GradientExchange {
public:
    /// `parameters`, float32 leaves by name, are the same on every rank; both must outlive this.
    GradientExchange(const std::map<std::string, at::Tensor>& parameters,
                     distributed::Communicator& communicator,
                     std::int64_t bucket_bytes = kBucketBytes);
    ~GradientExchange();
    GradientExchange(const GradientExchange&) = delete;
    GradientExchange& operator=(const GradientExchange&) = delete;

    /// Before a step: every `.grad` is zero and lies in its bucket.
    void begin();
    /// Before the backward of the step's last micro-batch: what becomes complete from now on is
    /// exchanged. `what` says so to people.
    void exchange(const std::string& what);
    /// These gradients are complete though no backward reported them.
    void complete(const std::map<std::string, at::Tensor>& parameters);
    /// After that backward: starts the remaining exchanges and waits for all. Every `.grad` then
    /// holds the mean over the ranks, in the same bits on each.
    void finish();

    [[nodiscard]] std::size_t num_buckets() const { return buckets_.size(); }
    /// Exchanges started before finish() of the last step: what overlaps with the backward.
    [[nodiscard]] std::size_t num_overlapped() const { return num_overlapped_; }

private:
    struct Member {
        at::Tensor parameter;
        at::Tensor gradient;  ///< a view into the bucket
        bool complete = false;
    };
    struct Bucket {
        at::Tensor flat;
        std::vector<Member> members;
        std::size_t num_incomplete = 0;
        std::unique_ptr<distributed::Work> work;
    };
    class Hook;

    void complete(std::size_t bucket, std::size_t member);
    void start_complete_buckets();

    distributed::Communicator& communicator_;
    std::vector<Bucket> buckets_;
    std::map<std::string, std::pair<std::size_t, std::size_t>> places_;
    std::string what_;
    bool exchanging_ = false;
    std::size_t num_started_ = 0;
    std::size_t num_overlapped_ = 0;
};

}  // namespace matrix::train
