#include "distributed/process_group.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "support/temp_directory.h"

namespace matrix::test {
namespace {

constexpr std::chrono::seconds kLimit{120};

/// One below those that the system gives to whoever connects, which may be taken a moment later.
int free_port() {
    constexpr int kFirst = 20000, kMany = 10000, kTries = 100;
    static std::atomic<int> next{::getpid() % kMany};
    for (int i = 0; i < kTries; ++i) {
        const int port = kFirst + next++ % kMany;
        // A process that another thread starts meanwhile must not inherit it.
        const int handle = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_ANY);
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        const bool is_free = handle >= 0 && ::bind(handle, reinterpret_cast<sockaddr*>(&address),
                                                   sizeof address) == 0;
        ::close(handle);
        if (is_free) {
            return port;
        }
    }
    throw std::runtime_error("no free port");
}

class Rank {
public:
    Rank(const std::string& scenario, int rank, int world_size, int port, std::size_t num_started,
         const std::filesystem::path& directory)
        : output_(directory / ("output-" + std::to_string(rank))) {
        std::vector<std::string> variables{
            "RANK=" + std::to_string(rank), "LOCAL_RANK=" + std::to_string(rank),
            "WORLD_SIZE=" + std::to_string(world_size),
            "LOCAL_WORLD_SIZE=" + std::to_string(world_size), "MASTER_ADDR=127.0.0.1",
            "MASTER_PORT=" + std::to_string(port), "OMP_NUM_THREADS=1",
            // c10d asks the name server for every address, 127.0.0.1 too: a slow one costs seconds.
            "RES_OPTIONS=attempts:0", "START_LINE=" + (directory / "start").string(),
            "STARTERS=" + std::to_string(num_started)};
        for (char** entry = environ; *entry != nullptr; ++entry) {
            const std::string text = *entry;
            const std::string name = text.substr(0, text.find('='));
            if (name == "ASAN_OPTIONS" || name == "PATH" || name == "LD_LIBRARY_PATH") {
                variables.push_back(text);
            }
        }
        std::vector<std::string> arguments{DISTRIBUTED_WORKER, scenario};
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output_.c_str(),
                                           O_CREAT | O_WRONLY | O_APPEND, 0600);
        ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
        const int fault = ::posix_spawn(&process_, DISTRIBUTED_WORKER, &actions, nullptr,
                                        pointers(arguments).data(), pointers(variables).data());
        ::posix_spawn_file_actions_destroy(&actions);
        if (fault != 0) {
            throw std::runtime_error("cannot start " DISTRIBUTED_WORKER);
        }
    }
    ~Rank() {
        if (!ended()) {
            kill();
        }
    }
    Rank(const Rank&) = delete;
    Rank& operator=(const Rank&) = delete;

    bool ended() {
        if (!reaped_ && ::waitpid(process_, &status_, WNOHANG) == process_) {
            reaped_ = true;
        }
        return reaped_;
    }

    void kill() {
        ::kill(process_, SIGKILL);
        ::waitpid(process_, &status_, 0);
        reaped_ = true;
        was_killed_here_ = true;
    }

    [[nodiscard]] RankResult result() const {
        std::ostringstream text;
        text << std::ifstream(output_).rdbuf();
        return {WIFEXITED(status_) ? WEXITSTATUS(status_) : -1,
                WIFSIGNALED(status_) ? WTERMSIG(status_) : 0, was_killed_here_, text.str()};
    }

private:
    static std::vector<char*> pointers(std::vector<std::string>& texts) {
        std::vector<char*> result;
        for (std::string& text : texts) {
            result.push_back(text.data());
        }
        result.push_back(nullptr);
        return result;
    }

    std::filesystem::path output_;
    pid_t process_ = -1;
    int status_ = 0;
    bool reaped_ = false;
    bool was_killed_here_ = false;
};

}  // namespace

std::map<int, RankResult> run_ranks(const std::string& scenario, int world_size,
                                    std::vector<int> ranks, std::vector<int> awaited) {
    if (ranks.empty()) {
        ranks.resize(world_size);
        std::iota(ranks.begin(), ranks.end(), 0);
    }
    if (awaited.empty()) {
        awaited = ranks;
    }
    const TempDirectory directory;
    std::filesystem::create_directory(directory / "start");
    const int port = free_port();
    std::map<int, Rank> running;
    for (const int rank : ranks) {
        running.try_emplace(rank, scenario, rank, world_size, port, ranks.size(), directory.path());
    }
    const auto deadline = std::chrono::steady_clock::now() + kLimit;
    const auto all_ended = [&] {
        bool result = true;
        for (const int rank : awaited) {
            result = running.at(rank).ended() && result;
        }
        return result;
    };
    while (!all_ended() && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::map<int, RankResult> results;
    for (auto& [number, rank] : running) {
        if (!rank.ended()) {
            rank.kill();
        }
        results[number] = rank.result();
    }
    return results;
}

}  // namespace matrix::test
