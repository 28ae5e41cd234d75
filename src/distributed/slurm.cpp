#include "distributed/slurm.h"

#include <algorithm>
#include <limits>

#include "matrix/core/error.h"

namespace matrix::distributed {
namespace {

constexpr const char* kSrun = "srun";
constexpr const char* kTasksPerNode = "SLURM_STEP_TASKS_PER_NODE";
constexpr std::int64_t kAnyNumber = std::numeric_limits<std::int64_t>::max();
// Slurm numbers what is no step of srun's (batch script, interactive shell, ...) down from 2^32
// - 1.
constexpr std::int64_t kFirstSpecialStep = 0xfffffff0;

int local_tasks(const Variables& variables, int world_size) {
    if (const auto tasks = variables.find(kTasksPerNode)) {
        const auto node = variables.find("SLURM_NODEID");
        return tasks_on_node(
            *tasks, node ? static_cast<int>(parse_number("SLURM_NODEID", *node, 0, kMaxRanks)) : 0);
    }
    return static_cast<int>(variables.number("SLURM_NTASKS_PER_NODE", kSrun, 1, world_size));
}

}  // namespace

bool is_slurm_task(const Variables& variables) {
    const auto step = variables.find("SLURM_STEP_ID");
    return step && variables.has("SLURM_PROCID") &&
           parse_number("SLURM_STEP_ID", *step, 0, kAnyNumber) < kFirstSpecialStep;
}

Environment read_slurm(const Variables& variables) {
    Environment environment;
    environment.launcher = kSrun;
    environment.world_size =
        static_cast<int>(variables.number("SLURM_NTASKS", kSrun, 1, kMaxRanks));
    environment.rank =
        static_cast<int>(variables.number("SLURM_PROCID", kSrun, 0, environment.world_size - 1));
    if (environment.world_size == 1) {
        return environment;
    }
    environment.local_world_size = local_tasks(variables, environment.world_size);
    environment.local_rank = static_cast<int>(
        variables.number("SLURM_LOCALID", kSrun, 0, environment.local_world_size - 1));
    if (!variables.has("MASTER_ADDR")) {
        environment.master_address = first_host(variables.text("SLURM_STEP_NODELIST", kSrun));
    }
    const std::int64_t job = variables.number("SLURM_JOB_ID", kSrun, 0, kAnyNumber);
    environment.master_port = port_of_job(static_cast<std::uint64_t>(job));
    environment.store_prefix =
        "matrix/" + std::to_string(job) + "." + variables.text("SLURM_STEP_ID", kSrun);
    return environment;
}

std::string first_host(const std::string& node_list) {
    std::string host;
    for (std::size_t at = 0; at < node_list.size() && node_list[at] != ','; ++at) {
        if (node_list[at] != '[') {
            host += node_list[at];
            continue;
        }
        const std::size_t first_end = node_list.find_first_of(",-]", at);
        const std::size_t close = node_list.find(']', at);
        if (close == std::string::npos || first_end == at + 1) {
            host.clear();
            break;
        }
        host += node_list.substr(at + 1, first_end - at - 1);
        at = close;
    }
    if (host.empty()) {
        throw UsageError("SLURM_STEP_NODELIST is \"" + node_list +
                         "\": a list of hosts like node[03-07,9] is wanted; or set MASTER_ADDR");
    }
    return host;
}

int tasks_on_node(const std::string& tasks_per_node, int node) {
    std::int64_t nodes_seen = 0;
    for (std::size_t at = 0; at < tasks_per_node.size();) {
        const std::size_t comma = std::min(tasks_per_node.find(',', at), tasks_per_node.size());
        const std::string part = tasks_per_node.substr(at, comma - at);
        const std::size_t times = part.find("(x");
        std::int64_t repeats = 1;
        if (times != std::string::npos) {
            if (part.back() != ')') {
                break;
            }
            repeats = parse_number(kTasksPerNode, part.substr(times + 2, part.size() - times - 3),
                                   1, kMaxRanks);
        }
        const std::int64_t tasks = parse_number(kTasksPerNode, part.substr(0, times), 1, kMaxRanks);
        nodes_seen += repeats;
        if (node < nodes_seen) {
            return static_cast<int>(tasks);
        }
        at = comma + 1;
    }
    throw UsageError(std::string(kTasksPerNode) + " is \"" + tasks_per_node +
                     "\": counts like 4(x2),3 that reach SLURM_NODEID " + std::to_string(node) +
                     " are wanted");
}

}  // namespace matrix::distributed
