#include "log/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace matrix::log {
namespace {

constexpr std::string_view kEraseLine = "\r\x1b[K";

// Straight to the descriptor: a line in stdio's buffer would come out after the bar that follows
// it.
void write_text(int descriptor, std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(descriptor, text.data(), text.size());
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return;  // A closed terminal must not stop the work.
        }
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

}  // namespace

Terminal& Terminal::get() {
    static Terminal terminal;
    return terminal;
}

void Terminal::set_quiet(bool quiet) {
    const std::lock_guard lock(mutex_);
    quiet_ = quiet;
}

void Terminal::set_silent(bool silent) {
    const std::lock_guard lock(mutex_);
    silent_ = silent;
}

bool Terminal::shows_progress() {
    const std::lock_guard lock(mutex_);
    return !quiet_ && !silent_;
}

void Terminal::line(bool to_stderr, std::string_view text) {
    const std::lock_guard lock(mutex_);
    if (silent_) {
        return;
    }
    const int descriptor = to_stderr ? STDERR_FILENO : STDOUT_FILENO;
    const bool below_bar = !bar_.empty() && ::isatty(descriptor) == 1;
    if (below_bar) {
        write_text(STDERR_FILENO, kEraseLine);
    }
    write_text(descriptor, std::string(text) + "\n");
    if (below_bar) {
        write_text(STDERR_FILENO, bar_);
    }
}

void Terminal::draw_bar(std::string_view text) {
    const std::lock_guard lock(mutex_);
    bar_ = text;
    write_text(STDERR_FILENO, std::string(kEraseLine) + bar_);
}

void Terminal::end_bar() {
    const std::lock_guard lock(mutex_);
    if (!bar_.empty()) {
        bar_.clear();
        write_text(STDERR_FILENO, "\n");
    }
}

int terminal_width() {
    winsize size{};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return 80;
}

bool stderr_is_terminal() {
    return ::isatty(STDERR_FILENO) == 1;
}

}  // namespace matrix::log
