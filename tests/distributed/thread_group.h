#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "distributed/thread_communicator.h"

namespace matrix::test {

/// Runs `body` once per rank, each in a thread of this process with a communicator on the CPU that
/// behaves as Communicator says (messages included) without sockets or processes; throws what the
/// first rank threw. Tests that use it link matrix::distributed.
inline void run_in_threads(int world_size,
                           const std::function<void(distributed::Communicator&)>& body,
                           std::chrono::milliseconds timeout = std::chrono::seconds(60)) {
    const auto run = std::make_shared<ThreadRun>();
    run->timeout = timeout;
    distributed::Group all;
    all.ranks.resize(world_size);
    std::iota(all.ranks.begin(), all.ranks.end(), 0);
    run->states.resize(world_size);
    for (auto& state : run->states) {
        state.emplace();
        state->phase = "joining the group";
    }
    std::vector<std::thread> threads;
    for (int rank = 0; rank < world_size; ++rank) {
        threads.emplace_back([&run, &all, &body, rank] {
            ThreadCommunicator group(run, all, rank);
            try {
                body(group);
            } catch (...) {
                // Before the others see that this rank has left, and throw for it.
                const std::lock_guard lock(run->mutex);
                if (!run->thrown) {
                    run->thrown = std::current_exception();
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    if (run->thrown) {
        std::rethrow_exception(run->thrown);
    }
}

}  // namespace matrix::test
