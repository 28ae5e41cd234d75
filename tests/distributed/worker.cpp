// One rank of the scenarios in group_test.cpp: distributed_worker SCENARIO. Leaves as `matrix`
// does: a RunError goes to stderr and makes exit code 1.

#include <ATen/ATen.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "distributed/collective_checks.h"
#include "distributed/exchange_checks.h"
#include "matrix/core/error.h"
#include "matrix/distributed/collective.h"
#include "matrix/distributed/communicator.h"

namespace {

using matrix::RunError;
using matrix::distributed::Communicator;
using matrix::distributed::ReduceOp;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kLong{60};
constexpr seconds kShort{8};  ///< enough for a dozen processes that start at once on two cores

void one_exchange(Communicator& group, const std::string& what) {
    at::Tensor tensor = at::ones({1000});
    group.all_reduce(tensor, ReduceOp::kSum, what)->wait();
}

/// Says where every rank is while this one is at what the caller goes on with.
std::future<void> tell_phases(Communicator& group) {
    return std::async(std::launch::async, [&group] {
        std::this_thread::sleep_for(seconds(2));
        std::printf("phases: %s\n", group.phases().c_str());
        std::fflush(stdout);
    });
}

void late_steps(Communicator& group, int guilty, const std::function<void()>& fault) {
    one_exchange(group, "gradients, step 1");
    std::future<void> teller;
    if (group.rank() == (guilty == 0 ? 1 : 0)) {
        teller = tell_phases(group);
    }
    if (group.rank() == guilty) {
        group.set_phase("reading a clip, step 2");
        // Until the others can know it.
        std::this_thread::sleep_for(milliseconds(600));
        fault();
    }
    one_exchange(group, "gradients, step 2");
}

/// Two pairs, of which the second waits for rank 3 before the first waits for the second.
void late_pairs(Communicator& group, const std::function<void()>& fault) {
    const int first = group.rank() / 2 * 2;
    const auto pair = group.subgroup({first, first + 1}, "pair");
    one_exchange(*pair, "heads, step 1");
    one_exchange(group, "gradients, step 1");
    if (group.rank() == 3) {
        group.set_phase("reading a clip, step 2");
        std::this_thread::sleep_for(milliseconds(600));
        fault();
    }
    one_exchange(*pair, "heads, step 2");
    std::this_thread::sleep_for(milliseconds(1500));
    one_exchange(group, "gradients, step 2");
}

struct Scenario {
    seconds timeout;
    std::function<void(Communicator&)> run;
};

const std::map<std::string, Scenario>& scenarios() {
    static const auto kill_self = [] { ::raise(SIGKILL); };
    static const std::map<std::string, Scenario> all{
        {"operations",
         {seconds(20),
          [](Communicator& group) {
              matrix::test::check_exchanges(group);
              matrix::test::check_collectives(group);
          }}},
        {"uneven",
         {seconds(20),
          [](Communicator& group) {
              for (int step = 0; step < 3; ++step) {
                  std::this_thread::sleep_for(milliseconds(60 * ((group.rank() + step) % 4)));
                  one_exchange(group, "gradients");
                  group.barrier("end of the step");
              }
          }}},
        {"patient",
         {seconds(5),
          [](Communicator& group) {
              const auto pair =
                  group.subgroup({group.rank() / 2 * 2, group.rank() / 2 * 2 + 1}, "pair");
              for (int meeting = 0; meeting < 2; ++meeting) {
                  if (group.rank() == meeting) {
                      std::this_thread::sleep_for(seconds(7));
                  }
                  pair->meet("pairs, step 1");
                  group.meet("sampling, step 1");
              }
              one_exchange(group, "gradients, step 2");
          }}},
        {"killed-before-meeting",
         {seconds(5),
          [](Communicator& group) {
              group.meet("sampling, step 1");
              if (group.rank() == 2) {
                  group.set_phase("making a video");
                  std::this_thread::sleep_for(milliseconds(600));
                  ::raise(SIGKILL);
              }
              group.meet("sampling, step 2");
          }}},
        {"leave-early",
         {seconds(20),
          [](Communicator& group) {
              one_exchange(group, "gradients");
              std::this_thread::sleep_for(milliseconds(300 * group.rank()));
          }}},
        {"parts-leave-early",
         {seconds(20),
          [](Communicator& group) {
              const auto first = group.subgroup({0, 1, 2}, "all");
              one_exchange(*first, "gradients");
              one_exchange(*group.subgroup({0, 1, 2}, "all"), "gradients");
              std::this_thread::sleep_for(milliseconds(100 * group.rank()));
          }}},
        {"arrive", {kShort, [](Communicator&) {}}},
        {"hang",
         {kShort,
          [](Communicator& group) {
              late_steps(group, 1, [] { std::this_thread::sleep_for(kLong); });
          }}},
        {"stopped-host",
         {kShort, [](Communicator& group) { late_steps(group, 0, [] { ::raise(SIGSTOP); }); }}},
        {"stopped",
         {seconds(6), [](Communicator& group) { late_steps(group, 1, [] { ::raise(SIGSTOP); }); }}},
        {"killed", {seconds(10), [](Communicator& group) { late_steps(group, 2, kill_self); }}},
        {"killed-host",
         {seconds(10), [](Communicator& group) { late_steps(group, 0, kill_self); }}},
        {"fault",
         {seconds(10),
          [](Communicator& group) { late_steps(group, 1, [] { throw RunError("disk full"); }); }}},
        {"pair-killed", {seconds(10), [](Communicator& group) { late_pairs(group, kill_self); }}},
        {"pair-late",
         {kShort,
          [](Communicator& group) {
              late_pairs(group, [] { std::this_thread::sleep_for(kLong); });
          }}},
        {"slow-decision",
         {kShort,
          [](Communicator& group) {
              const auto decide = [&] {
                  group.set_phase("writing the checkpoint,\nstep 2");
                  std::this_thread::sleep_for(2 * kShort);
                  return std::string("written");
              };
              (void)matrix::distributed::from_rank_0(group, decide, "checkpoint, step 2");
          }}},
    };
    return all;
}

/// Returns when as many ranks have come here as were started.
void wait_at_start_line(int rank) {
    const std::filesystem::path line = std::getenv("START_LINE");
    const long starters = std::stol(std::getenv("STARTERS"));
    std::ofstream(line / std::to_string(rank)).put('1');
    const auto come = [&] {
        return std::distance(std::filesystem::directory_iterator(line),
                             std::filesystem::directory_iterator());
    };
    while (come() < starters) {
        std::this_thread::sleep_for(milliseconds(5));
    }
}

}  // namespace

int main(int, char** arguments) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Scenario& scenario = scenarios().at(arguments[1]);
    try {
        const auto environment = matrix::distributed::read_environment();
        wait_at_start_line(environment.rank);
        const auto group =
            matrix::distributed::make_communicator(environment, "auto", at::kCPU, scenario.timeout);
        scenario.run(*group);
    } catch (const matrix::Error& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return error.exit_code();
    }
    std::puts("done");
    return 0;
}
