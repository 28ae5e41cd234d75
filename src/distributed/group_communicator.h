#pragma once

#include <c10/util/intrusive_ptr.h>

#include <functional>
#include <optional>

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

    [[nodiscard]] int rank() const override { return environment_.rank; }
    [[nodiscard]] int world_size() const override { return environment_.world_size; }
    [[nodiscard]] int local_rank() const override { return environment_.local_rank; }
    [[nodiscard]] at::Device device() const override { return device_; }
    void set_phase(std::string_view what) override { rendezvous_.board().set_phase(what); }

    std::unique_ptr<Work> all_reduce(at::Tensor& tensor, ReduceOp op,
                                     std::string_view what) override;
    std::unique_ptr<Work> broadcast(at::Tensor& tensor, int root, std::string_view what) override;
    std::unique_ptr<Work> all_gather(at::Tensor& output, const at::Tensor& input,
                                     std::string_view what) override;
    std::unique_ptr<Work> reduce_scatter(at::Tensor& output, const at::Tensor& input, ReduceOp op,
                                         std::string_view what) override;
    void barrier(std::string_view what) override;

protected:
    using BackendWork = c10::intrusive_ptr<c10d::Work>;
    using MakeBackend = std::function<c10::intrusive_ptr<c10d::Backend>()>;

    GroupCommunicator(const Environment& environment, at::Device device,
                      std::chrono::milliseconds timeout);

    /// In a subclass's constructor: the backend's own connecting can fail like an exchange.
    void connect(const MakeBackend& make);
    /// Starts an exchange; `finish` runs after it, in wait().
    std::unique_ptr<Work> launch(std::string_view what, const std::function<BackendWork()>& start,
                                 std::function<void()> finish = {});
    /// Sees every exchange that is under way.
    virtual void started(const BackendWork&, const FailedExchange&) {}
    /// Why the group failed, where that was noticed outside an exchange.
    [[nodiscard]] virtual std::optional<std::string> failure() { return std::nullopt; }

    [[nodiscard]] c10d::Backend& backend() const { return *backend_; }
    [[nodiscard]] const Environment& environment() const { return environment_; }
    [[nodiscard]] std::chrono::milliseconds timeout() const { return timeout_; }
    [[nodiscard]] Rendezvous& rendezvous() { return rendezvous_; }
    [[nodiscard]] bool failed() const { return failed_; }

private:
    class GroupWork;

    [[nodiscard]] FailedExchange join(std::string_view what);
    /// Runs what the backend may throw from, and turns that into the RunError of Communicator.
    void guard(FailedExchange& exchange, const std::function<void()>& run);

    Environment environment_;
    at::Device device_;
    std::chrono::milliseconds timeout_;
    bool failed_ = false;
    // The backend goes first: it uses the store until then.
    Rendezvous rendezvous_;
    c10::intrusive_ptr<c10d::Backend> backend_;
};

}  // namespace matrix::distributed
