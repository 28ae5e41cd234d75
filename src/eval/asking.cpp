#include "matrix/eval/asking.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "matrix/core/error.h"
#include "matrix/log/progress.h"

namespace matrix::eval {
namespace {

/// Runs every task once; the first exception that is no RunError ends all and is thrown.
class Crew {
public:
    Crew(const Plan& plan, StepResult& result)
        : plan_(plan),
          result_(result),
          progress_(plan.step, static_cast<std::int64_t>(plan.tasks.size())) {}

    void run(std::size_t concurrency) {
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < std::min(concurrency, plan_.tasks.size()); ++i) {
            threads.emplace_back([this] { work(); });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        progress_.finish();
        if (failure_) {
            std::rethrow_exception(failure_);
        }
    }

private:
    void work() {
        for (std::size_t i = 0; (i = next_++) < plan_.tasks.size();) {
            const Task& task = plan_.tasks[i];
            std::string reason;
            try {
                task.run();
            } catch (const RunError& error) {
                reason = error.what();
            } catch (...) {
                const std::lock_guard lock(mutex_);
                failure_ = failure_ ? failure_ : std::current_exception();
                next_ = plan_.tasks.size();
                return;
            }
            record(task, reason);
        }
    }

    void record(const Task& task, const std::string& reason) {
        const std::lock_guard lock(mutex_);
        if (reason.empty()) {
            ++result_.done;
        } else {
            result_.left_out.push_back(task.place);
            result_.left_out.back().reason = reason;
        }
        progress_.update(++finished_);
    }

    const Plan& plan_;
    StepResult& result_;
    log::Progress progress_;
    std::atomic<std::size_t> next_{0};
    std::mutex mutex_;
    std::int64_t finished_ = 0;
    std::exception_ptr failure_;
};

}  // namespace

Cost& Cost::operator+=(const Cost& other) {
    requests += other.requests;
    pictures += other.pictures;
    input_tokens += other.input_tokens;
    output_tokens += other.output_tokens;
    return *this;
}

Cost Plan::cost() const {
    Cost sum;
    for (const Task& task : tasks) {
        sum += task.cost;
    }
    return sum;
}

StepResult carry_out(Plan plan, std::size_t concurrency) {
    StepResult result{plan.step, 0, plan.kept, std::move(plan.left_out)};
    if (!plan.tasks.empty()) {
        Crew(plan, result).run(concurrency);
    }
    std::sort(result.left_out.begin(), result.left_out.end(),
              [](const LeftOut& a, const LeftOut& b) {
                  return std::tie(a.model, a.data_type, a.video) <
                         std::tie(b.model, b.data_type, b.video);
              });
    return result;
}

}  // namespace matrix::eval
