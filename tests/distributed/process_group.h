#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace matrix::test {

/// How one rank ended.
struct RankResult {
    int exit_code = -1;  ///< -1: it was ended by a signal
    int signal = 0;
    bool was_killed_here = false;  ///< it was still running when the others had ended
    std::string output;            ///< stdout and stderr
};

/// Starts `distributed_worker` with the scenario once per rank, with the variables that torchrun
/// would set, lets them go on when all of them have loaded their libraries (on a busy machine that
/// takes unequal seconds, which time-outs must not count), and waits for all of them. Ranks that
/// still run when `awaited` have ended, or after two minutes, are killed. `ranks` are the ones that
/// are started, of `world_size`.
std::map<int, RankResult> run_ranks(const std::string& scenario, int world_size,
                                    std::vector<int> ranks = {}, std::vector<int> awaited = {});

}  // namespace matrix::test
