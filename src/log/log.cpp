#include "matrix/log/log.h"

#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>

#include "log/terminal.h"

namespace matrix::log {
namespace {

/// Bare messages to stdout; warnings and errors, marked as such, to stderr. Terminal does the
/// locking.
class TerminalSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
protected:
    void sink_it_(const spdlog::details::log_msg& message) override {
        const std::string_view text(message.payload.data(), message.payload.size());
        switch (message.level) {
            case spdlog::level::warn:
                Terminal::get().line(true, "warning: " + std::string(text));
                break;
            case spdlog::level::err:
                Terminal::get().line(true, "error: " + std::string(text));
                break;
            default:
                Terminal::get().line(false, text);
        }
    }
    void flush_() override {}
};

/// spdlog's loggers hold a fixed list of sinks; the file comes later than the terminal and may
/// change.
struct State {
    std::mutex mutex;
    std::shared_ptr<TerminalSink> terminal = std::make_shared<TerminalSink>();
    std::shared_ptr<spdlog::logger> logger =
        std::make_shared<spdlog::logger>("matrix", spdlog::sinks_init_list{terminal});
    std::shared_ptr<spdlog::logger> file_logger;  // none before there is a file
    int rank = 0;

    State() {
        terminal->set_level(spdlog::level::info);
        logger->set_level(spdlog::level::trace);
        logger->flush_on(spdlog::level::info);
    }
};

State& state() {
    static State instance;
    return instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
    switch (level) {
        case Level::kDebug:
            return spdlog::level::debug;
        case Level::kInfo:
            return spdlog::level::info;
        case Level::kWarning:
            return spdlog::level::warn;
        case Level::kError:
            break;
    }
    return spdlog::level::err;
}

void write(spdlog::level::level_enum level, std::string_view message) {
    std::shared_ptr<spdlog::logger> logger;
    {
        const std::lock_guard lock(state().mutex);
        logger = state().logger;
    }
    logger->log(level, spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace

void configure(Level level) {
    const std::lock_guard lock(state().mutex);
    state().terminal->set_level(to_spdlog(level));
    Terminal::get().set_quiet(level > Level::kInfo);
}

void set_rank(int rank) {
    const std::lock_guard lock(state().mutex);
    state().rank = rank;
    Terminal::get().set_silent(rank != 0);
}

int rank() {
    const std::lock_guard lock(state().mutex);
    return state().rank;
}

void open_file(const std::filesystem::path& path) {
    const std::lock_guard lock(state().mutex);
    // spdlog_ex is a std::exception of its own kind: callers are promised a std::runtime_error.
    try {
        auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
        file->set_level(spdlog::level::info);
        file->set_pattern("%Y-%m-%d %H:%M:%S.%e rank " + std::to_string(state().rank) + " %l %v");
        state().file_logger =
            std::make_shared<spdlog::logger>("matrix", spdlog::sinks_init_list{file});
        state().file_logger->flush_on(spdlog::level::info);
        auto logger = std::make_shared<spdlog::logger>(
            "matrix", spdlog::sinks_init_list{state().terminal, std::move(file)});
        logger->set_level(spdlog::level::trace);
        logger->flush_on(spdlog::level::info);
        state().logger = std::move(logger);
    } catch (const spdlog::spdlog_ex& failure) {
        throw std::runtime_error("cannot open the log file " + path.string() + ": " +
                                 failure.what());
    }
}

void debug(std::string_view message) {
    write(spdlog::level::debug, message);
}
void info(std::string_view message) {
    write(spdlog::level::info, message);
}
void warning(std::string_view message) {
    write(spdlog::level::warn, message);
}
void error(std::string_view message) {
    write(spdlog::level::err, message);
}
void error_to_file(std::string_view message) {
    std::shared_ptr<spdlog::logger> logger;
    {
        const std::lock_guard lock(state().mutex);
        logger = state().file_logger;
    }
    if (logger) {
        logger->error(spdlog::string_view_t(message.data(), message.size()));
    }
}

}  // namespace matrix::log
