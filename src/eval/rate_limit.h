#pragma once

#include <algorithm>
#include <chrono>
#include <mutex>

namespace matrix::eval {

/// Turns to send: evenly spaced, and none before a time that the server named.
class RateLimit {
public:
    using Clock = std::chrono::steady_clock;

    /// 0: no limit.
    explicit RateLimit(double requests_per_minute)
        : spacing_(requests_per_minute > 0 ? duration(60.0 / requests_per_minute)
                                           : Clock::duration{0}) {}

    /// No more than a century, which a clock can count on from any present.
    [[nodiscard]] static Clock::duration duration(double seconds) {
        return std::chrono::duration_cast<Clock::duration>(
            std::chrono::duration<double>(std::min(seconds, 3e9)));
    }

    /// Takes the next turn; seconds from `now` until it comes.
    [[nodiscard]] double take(Clock::time_point now) {
        const std::lock_guard lock(mutex_);
        const Clock::time_point turn = std::max(now, next_);
        next_ =
            turn < Clock::time_point::max() - spacing_ ? turn + spacing_ : Clock::time_point::max();
        return std::chrono::duration<double>(turn - now).count();
    }

    /// No turn comes before `time`.
    void hold_until(Clock::time_point time) {
        const std::lock_guard lock(mutex_);
        next_ = std::max(next_, time);
    }

private:
    Clock::duration spacing_;
    std::mutex mutex_;
    Clock::time_point next_{};
};

}  // namespace matrix::eval
