#include "matrix/log/progress.h"

#include <utility>

#include "log/progress_line.h"
#include "log/terminal.h"

namespace matrix::log {
namespace {

constexpr std::chrono::milliseconds kTerminalPause{100};
constexpr std::chrono::seconds kPlainPause{5};

}  // namespace

Progress::Progress(std::string label, std::int64_t total, std::int64_t done)
    : label_(std::move(label)),
      total_(total),
      start_(done),
      done_(done),
      terminal_(stderr_is_terminal()),
      began_(std::chrono::steady_clock::now()),
      drawn_(began_) {
    if (terminal_) {
        draw();
    }
}

Progress::~Progress() {
    finish();
}

void Progress::update(std::int64_t done, const std::string& detail) {
    done_ = done;
    detail_ = detail;
    const auto now = std::chrono::steady_clock::now();
    const auto pause = terminal_ ? std::chrono::nanoseconds(kTerminalPause) : kPlainPause;
    if (!finished_ && now - drawn_ >= pause) {
        drawn_ = now;
        draw();
    }
}

void Progress::finish() {
    if (std::exchange(finished_, true)) {
        return;
    }
    draw();
    if (terminal_) {
        Terminal::get().end_bar();
    }
}

void Progress::draw() const {
    if (!Terminal::get().shows_progress()) {
        return;
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - began_;
    const ProgressState state{label_, done_, total_, start_, elapsed.count(), detail_};
    if (terminal_) {
        // One column stays free: a full last column makes some terminals wrap.
        Terminal::get().draw_bar(progress_line(state, terminal_width() - 1));
    } else {
        Terminal::get().line(true, progress_text(state));
    }
}

}  // namespace matrix::log
