#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace matrix::train {

/// The last values of something a step measures.
class RecentValues {
public:
    void add(double value);
    /// Nothing before there are enough to tell what is usual.
    [[nodiscard]] std::optional<double> median() const;

private:
    std::deque<double> values_;
};

/// Tells of a step's loss that stands out from those before it: a spike that a mean would hide.
class LossWatch {
public:
    /// What to say of this loss, if anything. Values that are not finite are another matter.
    [[nodiscard]] std::optional<std::string> look(double loss);

private:
    RecentValues recent_;
};

/// How long a step may take before it is reported. Chosen here: the spread between clip lengths
/// stays below.
struct StallLimits {
    double factor = 10.0;                ///< of the usual step
    double shortest_seconds = 30.0;      ///< less is never reported
    double unknown_step_seconds = 60.0;  ///< the usual step, before there are steps to compare with
};

/// Reports a step that takes far longer than usual while it still hangs, from a thread of its own;
/// once a step.
class StallWatch {
public:
    /// `where` says what every rank is at; it is called on the thread.
    explicit StallWatch(std::function<std::string()> where, const StallLimits& limits = {});
    ~StallWatch();
    StallWatch(const StallWatch&) = delete;
    StallWatch& operator=(const StallWatch&) = delete;

    void begin(const std::string& step);
    void end();

private:
    using Clock = std::chrono::steady_clock;
    void run();

    std::function<std::string()> where_;
    StallLimits limits_;
    std::mutex mutex_;
    std::condition_variable wake_;
    RecentValues seconds_;
    std::string step_;
    std::optional<Clock::time_point> began_;  // of the step under way, until it has been reported
    Clock::time_point started_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace matrix::train
