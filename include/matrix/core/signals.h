#pragma once

#include <array>
#include <chrono>
#include <csignal>
#include <optional>

namespace matrix {

/// The signals that ask for a stop: Ctrl-C, a scheduler's end, and Slurm's warning before it.
inline constexpr std::array kStopSignals = {SIGINT, SIGTERM, SIGUSR1};

/// Turns these signals into a flag that long work polls at safe points; a second signal ends the
/// process at once. One that comes within `echo` of the first is taken for the same request: a
/// launcher passes on what its processes were sent too.
void install_stop_signals(std::chrono::milliseconds echo = {});

/// The signal that asked for a stop, if one came.
[[nodiscard]] std::optional<int> stop_signal() noexcept;

/// Thrown by `main`'s commands after they saved, to leave with 128 + signal.
struct Stopped {
    int signal;
};

}  // namespace matrix
