#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "matrix/distributed/environment.h"

namespace matrix::distributed {

enum class ReduceOp { kSum, kAverage, kMax, kMin };

/// An exchange under way. Its tensors must not be touched before wait(), and it must not outlive
/// its communicator.
class Work {
public:
    virtual ~Work() = default;
    /// CPU: returns when the tensors hold the result. GPU: the current stream waits for it, the
    /// host does not. RunError as described at Communicator. Further calls do nothing.
    virtual void wait() = 0;
};

/// The processes of a run, or some of them, as one group. All ranks call the same exchanges in the
/// same order with tensors of the same shape and dtype, on the communicator's device and
/// contiguous; one thread calls.
///
/// `what` names the exchange to people ("gradients, step 12"). A rank that does not join one within
/// the timeout, has ended or has left makes the others fail with a RunError that names it, says
/// what it was last at and which ranks wait for it where. How they know: a thread of every rank
/// writes its count of exchanges and its last label to the group's store a few times a second, and
/// the store is read only after a failure; an exchange itself costs a lock and a copy of the label.
/// The error comes at most about two seconds after the timeout. After it neither the communicator
/// nor any other one of the run is of further use: their exchanges throw the same.
///
/// The destructor leaves the group in order: the rank that hosts the store goes last. It waits for
/// the others no longer than the timeout (five seconds after a failure), and three seconds for
/// ranks that have ended.
///
/// Messages number the ranks as the run does, in subgroups too.
class Communicator {
public:
    virtual ~Communicator() = default;

    [[nodiscard]] virtual int rank() const = 0;
    [[nodiscard]] virtual int world_size() const = 0;
    [[nodiscard]] virtual int local_rank() const = 0;  ///< as in Environment
    /// Where the tensors of its exchanges are.
    [[nodiscard]] virtual at::Device device() const = 0;

    /// Says what this rank is at between exchanges ("reading a clip, step 12"), for messages on the
    /// other ranks.
    virtual void set_phase(std::string_view what) = 0;
    /// One line that says where every rank of the run is, for reports of a stalled step: "rank 0:
    /// gradients, step 12; rank 1: reading a clip, step 12 (no sign of life for 8 s)"; ranks at the
    /// same share an entry. Of a single process it is the last set_phase. Any thread, also while
    /// exchanges are under way; takes a second or two, and about four where the store does not
    /// answer, which the line then says. How long a rank is silent goes by the machines' clocks.
    [[nodiscard]] virtual std::string phases() = 0;

    /// In place. On CPUs 16-bit floats are reduced in float32 and rounded once; averages are sums
    /// that are divided afterwards.
    [[nodiscard]] virtual std::unique_ptr<Work> all_reduce(at::Tensor& tensor, ReduceOp op,
                                                           std::string_view what) = 0;
    /// In place: root's values reach every rank.
    [[nodiscard]] virtual std::unique_ptr<Work> broadcast(at::Tensor& tensor, int root,
                                                          std::string_view what) = 0;
    /// output [world, ...] gets every rank's input [...], by rank.
    [[nodiscard]] virtual std::unique_ptr<Work> all_gather(at::Tensor& output,
                                                           const at::Tensor& input,
                                                           std::string_view what) = 0;
    /// output [...] gets row `rank` of the reduced input [world, ...]. Rounding as in all_reduce.
    [[nodiscard]] virtual std::unique_ptr<Work> reduce_scatter(at::Tensor& output,
                                                               const at::Tensor& input, ReduceOp op,
                                                               std::string_view what) = 0;
    /// output[i] gets row `rank` of rank i's input; both are [world, ...] of one shape and dtype
    /// and do not overlap.
    [[nodiscard]] virtual std::unique_ptr<Work> all_to_all(at::Tensor& output,
                                                           const at::Tensor& input,
                                                           std::string_view what) = 0;
    /// RunError if an exchange has failed. On GPUs wait() does not block: what is read of a result
    /// counts once this has been called behind the reading.
    virtual void check() {}
    /// Returns when every rank has called it.
    virtual void barrier(std::string_view what) = 0;
    /// The same for work that takes ranks unequally long: no exchange is under way meanwhile, and
    /// the timeout counts for each missing rank from its last sign of life. RunError if one of them
    /// gives none for that long, or has left.
    virtual void meet(std::string_view what) = 0;

    /// A communicator of its own among `ranks`: ascending, as this group numbers them, and this
    /// rank one of them. In it they are numbered from 0; local_rank() stays. Every rank of this
    /// group calls it at the same place, each with the ranks it belongs with; several groups may
    /// have one name. Their exchanges need not come in this group's order (on GPUs, ranks that
    /// share two groups start the exchanges of both in one order). This group must outlive it.
    [[nodiscard]] virtual std::unique_ptr<Communicator> subgroup(const std::vector<int>& ranks,
                                                                 std::string_view name) = 0;
};

/// Joins the group. One process: no exchange takes place, tensors on `device` stay as they are
/// (all_gather, reduce_scatter and all_to_all copy). Otherwise `backend` is "gloo" (tensors on the
/// CPU), "nccl" (on GPUs) or "auto" (by `device`, which names the rank's own GPU); UsageError for
/// another one, or one that does not fit the device or this build. RunError, naming the missing
/// ranks, where not all of them arrive within the timeout. Over several machines Gloo takes the
/// network interface of GLOO_SOCKET_IFNAME, else the one that the machine's name resolves to.
[[nodiscard]] std::unique_ptr<Communicator> make_communicator(const Environment& environment,
                                                              const std::string& backend,
                                                              at::Device device,
                                                              std::chrono::seconds timeout);

}  // namespace matrix::distributed
