#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "distributed/rank_state.h"

namespace matrix::distributed {

/// How often a rank writes its state, and how long a reader waits for the next writing. The second
/// is several times the first, since the writing thread may have to wait for a core.
constexpr std::chrono::milliseconds kBeat{250};
constexpr std::chrono::milliseconds kSignOfLife{1250};

/// This rank's state, and the thread that writes it. The main thread only ever takes a lock.
class PhaseBoard {
public:
    /// `write` stores the text where the others find it; it may throw, which ends the writing.
    explicit PhaseBoard(std::function<void(const std::string&)> write);
    ~PhaseBoard();
    PhaseBoard(const PhaseBoard&) = delete;
    PhaseBoard& operator=(const PhaseBoard&) = delete;

    void set_phase(std::string_view what);
    [[nodiscard]] std::string phase() const;
    /// Counts one more exchange of the group and returns the count.
    std::int64_t join(const std::string& group, std::string_view what);
    void leave_group(const std::string& group);
    /// Writes that this rank has left; the last writing.
    void leave();

private:
    void run();
    void stop();
    /// For the next writing; under the lock.
    std::string next();

    std::function<void(const std::string&)> write_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    RankState state_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace matrix::distributed
