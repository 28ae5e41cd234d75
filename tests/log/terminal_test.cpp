#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <thread>

#include "matrix/log/log.h"
#include "matrix/log/progress.h"
#include "support/temp_directory.h"

namespace matrix::log {
namespace {

std::string drain(int descriptor) {
    std::string text;
    char buffer[4096];
    // A pseudo terminal ends with EIO when its other side is closed.
    for (ssize_t n = 0; (n = ::read(descriptor, buffer, sizeof(buffer))) > 0;) {
        text.append(buffer, static_cast<std::size_t>(n));
    }
    return text;
}

std::string run_child(int out, int err, int read_end, const std::function<void()>& body) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::dup2(out, STDOUT_FILENO);
        ::dup2(err, STDERR_FILENO);
        body();
        ::_exit(0);
    }
    ::close(err);
    if (out != err) {
        ::close(out);
    }
    std::string text = drain(read_end);
    ::close(read_end);
    ::waitpid(child, nullptr, 0);
    return text;
}

// What `body` writes to stdout and stderr when both are a terminal of 30 columns.
std::string on_terminal(const std::function<void()>& body) {
    const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
    EXPECT_EQ(::grantpt(master), 0);
    EXPECT_EQ(::unlockpt(master), 0);
    const int slave = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
    const winsize size{24, 30, 0, 0};
    ::ioctl(slave, TIOCSWINSZ, &size);
    return run_child(slave, slave, master, body);
}

// What `body` writes to stderr, or to both, when it is a pipe.
std::string on_pipe(bool both, const std::function<void()>& body) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const int out = both ? ends[1] : ::open("/dev/null", O_WRONLY);
    return run_child(out, ends[1], ends[0], body);
}

// What stands on the screen's lines at the end, and the widest a line ever was.
struct Screen {
    std::string text;
    std::size_t widest = 0;

    explicit Screen(const std::string& output) {
        std::string line;
        for (std::size_t i = 0; i < output.size(); ++i) {
            if (output.compare(i, 3, "\x1b[K") == 0) {
                i += 2;
                line.clear();
            } else if (output[i] == '\n') {
                text += line + "\n";
                line.clear();
            } else if (output[i] != '\r') {
                line += output[i];
                widest = std::max(widest, line.size());
            }
        }
        text += line;
    }
};

TEST(Terminal, LinesAndTheBarTakeTurns) {
    const Screen screen(on_terminal([] {
        Progress progress("work", 10);
        info("first line");
        progress.update(10);
        warning("second line");
        progress.finish();
        info("third line");
    }));
    EXPECT_EQ(screen.text.find("first line\nwarning: second line\nwork 100% 10/10"), 0u)
        << screen.text;
    EXPECT_NE(screen.text.find("\nthird line\n"), std::string::npos) << screen.text;
    // One column less than the terminal has: a full line would wrap.
    EXPECT_LE(screen.widest, 29u);
}

TEST(Terminal, QuietDropsProgressAndLines) {
    EXPECT_EQ(on_terminal([] {
                  configure(Level::kWarning);
                  Progress progress("work", 10);
                  info("line");
                  progress.update(10);
              }),
              "");
    EXPECT_EQ(on_pipe(true,
                      [] {
                          configure(Level::kDebug);
                          set_rank(1);
                          Progress progress("work", 10);
                          debug("line");
                          error("line");
                      }),
              "");
}

TEST(Terminal, APipeGetsPlainLines) {
    const std::string text = on_pipe(false, [] {
        Progress progress("work", 10);
        for (int i = 0; i <= 10; ++i) {
            progress.update(i);
        }
        info("to stdout");
        error("to stderr");
    });
    // Ten updates within five seconds are one line, the last.
    EXPECT_EQ(text.find("error: to stderr\nwork 100% 10/10"), 0u) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(Terminal, DebugLinesComeOnRequest) {
    EXPECT_EQ(on_pipe(true, [] { debug("hidden"); }), "");
    EXPECT_EQ(on_pipe(true,
                      [] {
                          configure(Level::kDebug);
                          debug("shown {}");
                      }),
              "shown {}\n");
}

TEST(Terminal, ThreadsDoNotMixTheirLines) {
    const std::string text = on_pipe(true, [] {
        const auto write = [](char c) {
            for (int i = 0; i < 200; ++i) {
                info(std::string(50, c));
            }
        };
        std::thread other(write, 'a');
        write('b');
        other.join();
    });
    std::istringstream lines(text);
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
        EXPECT_EQ(line, std::string(50, line[0]));
    }
    EXPECT_EQ(count, 400);
}

TEST(LogFile, HasDateRankAndLevel) {
    const test::TempDirectory dir;
    const std::string path = (dir / "run/log.txt").string();
    (void)on_pipe(true, [&] {
        configure(Level::kError);
        set_rank(3);
        open_file(path);
        debug("hidden");
        info("a line");
        warning("another");
        error_to_file("printed elsewhere");
    });
    std::ifstream file(path);
    std::string line;
    ASSERT_TRUE(std::getline(file, line));
    EXPECT_EQ(line.size(), std::string("2000-01-01 00:00:00.000 rank 3 info a line").size());
    EXPECT_NE(line.find(" rank 3 info a line"), std::string::npos) << line;
    ASSERT_TRUE(std::getline(file, line));
    EXPECT_NE(line.find(" rank 3 warning another"), std::string::npos) << line;
    ASSERT_TRUE(std::getline(file, line));
    EXPECT_NE(line.find(" rank 3 error printed elsewhere"), std::string::npos) << line;
    EXPECT_FALSE(std::getline(file, line));
}

TEST(LogFile, ThatCannotBeOpenedIsAnError) {
    const test::TempDirectory dir;
    std::ofstream(dir / "file") << "x";
    try {
        open_file(dir / "file/log.txt");
        FAIL() << "opened";
    } catch (const std::runtime_error& failure) {
        EXPECT_NE(std::string(failure.what()).find((dir / "file/log.txt").string()),
                  std::string::npos);
    }
}

}  // namespace
}  // namespace matrix::log
