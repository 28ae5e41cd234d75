#include "matrix/core/signals.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace matrix {
namespace {

std::atomic<int> stopped_by{0};
std::atomic<std::int64_t> stopped_at_ms{0};
std::atomic<std::int64_t> echo_ms{0};
static_assert(std::atomic<int>::is_always_lock_free &&
                  std::atomic<std::int64_t>::is_always_lock_free,
              "set in a signal handler");

std::int64_t now_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

void handle(int signal) {
    std::int64_t never = 0;
    stopped_at_ms.compare_exchange_strong(never, now_ms());
    int none = 0;
    if (!stopped_by.compare_exchange_strong(none, signal) && now_ms() - stopped_at_ms >= echo_ms) {
        ::_exit(128 + signal);
    }
}

}  // namespace

void install_stop_signals(std::chrono::milliseconds echo) {
    echo_ms = echo.count();
    struct sigaction action {};
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    for (const int signal : kStopSignals) {
        ::sigaction(signal, &action, nullptr);
    }
}

std::optional<int> stop_signal() noexcept {
    const int signal = stopped_by.load();
    return signal == 0 ? std::nullopt : std::optional<int>(signal);
}

}  // namespace matrix
