#pragma once

#include <mutex>
#include <string>
#include <string_view>

namespace matrix::log {

/// The one writer to stdout and stderr, so that log lines and the progress bar take turns: a line
/// erases the bar, and the bar is drawn again below it. Every call is safe from any thread.
class Terminal {
public:
    static Terminal& get();

    /// Whether progress is left out.
    void set_quiet(bool quiet);
    /// A silent process writes nothing at all.
    void set_silent(bool silent);
    /// Whether progress may be shown.
    [[nodiscard]] bool shows_progress();

    /// Writes one whole line, `text` without its newline.
    void line(bool to_stderr, std::string_view text);
    /// Draws `text` in the last line of stderr, which must be a terminal wider than `text`.
    void draw_bar(std::string_view text);
    /// Leaves the bar where it stands and goes to the next line.
    void end_bar();

private:
    std::mutex mutex_;
    std::string bar_;
    bool quiet_ = false;
    bool silent_ = false;
};

/// Columns of the terminal on stderr, 80 where it does not say.
[[nodiscard]] int terminal_width();

/// Whether stderr is a terminal.
[[nodiscard]] bool stderr_is_terminal();

}  // namespace matrix::log
