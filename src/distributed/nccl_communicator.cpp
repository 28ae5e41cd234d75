#include "distributed/nccl_communicator.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAFunctions.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <utility>

#include "distributed/group_communicator.h"
#include "distributed/messages.h"

namespace matrix::distributed {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPoll{100};
// c10d's own watchdog ends the process without saying who was late: it comes after ours.
constexpr std::chrono::minutes kLastResort{2};

/// wait() does not block the host, so a thread looks for exchanges that take too long. It then
/// finds out why and aborts the backend: kernels that wait for a peer return, the host gets to its
/// next call here, and that call throws.
class NcclCommunicator : public GroupCommunicator {
public:
    NcclCommunicator(const Environment& environment, at::Device device,
                     std::chrono::milliseconds timeout)
        : GroupCommunicator(environment, device, timeout) {
        connect_all();
    }
    NcclCommunicator(const GroupCommunicator& parent, Group group)
        : GroupCommunicator(parent, std::move(group)) {
        connect_all();
    }

    ~NcclCommunicator() override {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        wake_.notify_all();
        watcher_.join();
        under_way_.clear();
        try {
            if (rendezvous().failure()) {
                backend().abort();
            } else {
                backend().shutdown();
            }
        } catch (const std::exception&) {
            // A peer went first; there is nothing more to release.
        }
    }

    NcclCommunicator(const NcclCommunicator&) = delete;
    NcclCommunicator& operator=(const NcclCommunicator&) = delete;

protected:
    void started(const BackendWork& work, const FailedExchange& exchange) override {
        const std::lock_guard lock(mutex_);
        under_way_.push_back({work, exchange, Clock::now()});
    }

    [[nodiscard]] std::unique_ptr<Communicator> make_subgroup(Group group) const override {
        return std::make_unique<NcclCommunicator>(*this, std::move(group));
    }

private:
    struct UnderWay {
        BackendWork work;
        FailedExchange exchange;
        Clock::time_point since;
    };

    void connect_all() {
        c10::cuda::set_device(device().index());
        connect([this](const c10::intrusive_ptr<c10d::Store>& store) {
            auto options = c10d::ProcessGroupNCCL::Options::create();
            options->timeout = timeout() + kLastResort;
            auto group =
                c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank(), world_size(), options);
            group->setBoundDeviceId(device());
            group->eagerConnectSingleDevice(device());
            return group;
        });
        watcher_ = std::thread([this] { watch(); });
    }

    void watch() {
        FailedExchange exchange;
        try {
            if (wait_for_failure(exchange)) {
                (void)rendezvous().fail(exchange);
            }
        } catch (const std::exception& error) {  // a GPU that answers no more
            exchange.cause = first_line(error.what());
            (void)rendezvous().fail(exchange);
        }
        if (rendezvous().failure() && !stopping()) {
            try {
                backend().abort();
            } catch (const std::exception&) {
                // What failed has been said; the host's next call here throws it.
            }
        }
    }

    [[nodiscard]] bool stopping() {
        const std::lock_guard lock(mutex_);
        return stopping_;
    }

    /// Until an exchange of this group fails, which goes into `exchange`; false where another
    /// group's did (kernels of this one may wait for a rank that is held up there) or none will.
    bool wait_for_failure(FailedExchange& exchange) {
        std::unique_lock lock(mutex_);
        while (!wake_.wait_for(lock, kPoll, [this] { return stopping_; })) {
            if (rendezvous().failure()) {
                return false;
            }
            while (!under_way_.empty()) {
                const UnderWay& front = under_way_.front();
                exchange = front.exchange;
                // One that failed counts as completed.
                const bool completed = front.work->isCompleted();
                if (const std::exception_ptr failed = front.work->exception()) {
                    std::rethrow_exception(failed);
                }
                if (!completed) {
                    break;
                }
                under_way_.pop_front();
                if (!under_way_.empty()) {
                    // Exchanges run one after the other: this one could not have ended before.
                    under_way_.front().since = Clock::now();
                }
            }
            if (!under_way_.empty() && Clock::now() - under_way_.front().since >= timeout()) {
                exchange.cause = "no result within the timeout";
                return true;
            }
        }
        return false;
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<UnderWay> under_way_;
    bool stopping_ = false;
    std::thread watcher_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(const Environment& environment,
                                                     at::Device device,
                                                     std::chrono::seconds timeout) {
    return std::make_unique<NcclCommunicator>(environment, device, timeout);
}

}  // namespace matrix::distributed
