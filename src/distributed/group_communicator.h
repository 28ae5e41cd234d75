#pragma once

#include <c10/util/intrusive_ptr.h>

#include <functional>
#include <memory>

#include "distributed/rendezvous.h"
#include "matrix/distributed/communicator.h"

namespace c10d {
class Backend;
class Work;
}  // namespace c10d

namespace matrix::distributed {

/// Several processes over a backend of c10d, which does all exchanges as they come; a subclass
/// makes the backend and replaces what its backend does differently.
class GroupCommunicator : public Communicator {
public:
    ~GroupCommunicator() override;
    GroupCommunicator(const GroupCommunicator&) = delete;
    GroupCommunicator& operator=(const GroupCommunicator&) = delete;

    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int world_size() const override { return static_cast<int>(group_->ranks.size()); }
    [[nodiscard]] int local_rank() const override { return environment_.local_rank; }
    [[nodiscard]] at::Device device() const override { return device_; }
    void set_phase(std::string_view what) override { rendezvous_->board().set_phase(what); }
    [[nodiscard]] std::string phases() override { return rendezvous_->phases(); }

    std::unique_ptr<Work> all_reduce(at::Tensor& tensor, ReduceOp op,
                                     std::string_view what) override;
    std::unique_ptr<Work> broadcast(at::Tensor& tensor, int root, std::string_view what) override;
    std::unique_ptr<Work> all_gather(at::Tensor& output, const at::Tensor& input,
                                     std::string_view what) override;
    std::unique_ptr<Work> reduce_scatter(at::Tensor& output, const at::Tensor& input, ReduceOp op,
                                         std::string_view what) override;
    std::unique_ptr<Work> all_to_all(at::Tensor& output, const at::Tensor& input,
                                     std::string_view what) override;
    void check() override;
    void barrier(std::string_view what) override;
    void meet(std::string_view what) override;
    std::unique_ptr<Communicator> subgroup(const std::vector<int>& ranks,
                                           std::string_view name) override;

protected:
    static constexpr const char* kConnecting = "connecting the ranks";
    using BackendWork = c10::intrusive_ptr<c10d::Work>;
    using MakeBackend = std::function<c10::intrusive_ptr<c10d::Backend>(
        const c10::intrusive_ptr<c10d::Store>& store)>;

    /// All ranks of the run.
    GroupCommunicator(const Environment& environment, at::Device device,
                      std::chrono::milliseconds timeout);
    /// Some ranks of `parent`.
    GroupCommunicator(const GroupCommunicator& parent, Group group);

    [[nodiscard]] virtual std::unique_ptr<Communicator> make_subgroup(Group group) const = 0;

    /// In a subclass's constructor: the backend's own connecting can fail like an exchange. `make`
    /// gets a store in which no other group writes.
    void connect(const MakeBackend& make);
    /// Starts an exchange; `finish` runs after it, in wait().
    std::unique_ptr<Work> launch(std::string_view what, const std::function<BackendWork()>& start,
                                 std::function<void()> finish = {});
    /// Sees every exchange that is under way.
    virtual void started(const BackendWork&, const FailedExchange&) {}

    [[nodiscard]] c10d::Backend& backend() const { return *backend_; }
    [[nodiscard]] const Environment& environment() const { return environment_; }
    [[nodiscard]] std::chrono::milliseconds timeout() const { return timeout_; }
    [[nodiscard]] Rendezvous& rendezvous() const { return *rendezvous_; }

private:
    class GroupWork;

    [[nodiscard]] FailedExchange exchange(std::string_view what, std::int64_t index) const;
    [[nodiscard]] FailedExchange join(std::string_view what);
    /// Runs what the backend may throw from, and turns that into the RunError of Communicator.
    void guard(const FailedExchange& exchange, const std::function<void()>& run);

    Environment environment_;
    at::Device device_;
    std::chrono::milliseconds timeout_;
    std::shared_ptr<const Group> group_;
    int rank_;
    int num_subgroups_ = 0;
    std::int64_t num_meetings_ = 0;
    // The backend goes first: it uses the store until then.
    std::shared_ptr<Rendezvous> rendezvous_;
    c10::intrusive_ptr<c10d::Backend> backend_;
};

}  // namespace matrix::distributed
