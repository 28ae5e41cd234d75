#pragma once

#include <optional>

namespace matrix {

/// Turns SIGINT and SIGTERM into a flag that long work polls at safe points; a second signal ends
/// the process at once.
void install_stop_signals();

/// The signal that asked for a stop, if one came.
[[nodiscard]] std::optional<int> stop_signal() noexcept;

/// Thrown by `main`'s commands after they saved, to leave with 128 + signal.
struct Stopped {
    int signal;
};

}  // namespace matrix
