#include "matrix/core/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace matrix {
namespace {

std::atomic<int> stopped_by{0};
static_assert(std::atomic<int>::is_always_lock_free, "set in a signal handler");

void handle(int signal) {
    int none = 0;
    if (!stopped_by.compare_exchange_strong(none, signal)) {
        ::_exit(128 + signal);
    }
}

}  // namespace

void install_stop_signals() {
    struct sigaction action {};
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
}

std::optional<int> stop_signal() noexcept {
    const int signal = stopped_by.load();
    return signal == 0 ? std::nullopt : std::optional<int>(signal);
}

}  // namespace matrix
