#include "matrix/distributed/environment.h"

#include <charconv>
#include <cstdlib>
#include <system_error>

#include "distributed/slurm.h"
#include "distributed/variables.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"

namespace matrix::distributed {
namespace {

constexpr const char* kTorchrun = "torchrun";
constexpr const char* kMpirun = "mpirun";

void read_ranks(Environment& environment, const Variables& variables, const std::string& rank,
                const std::string& size, const std::string& local_rank,
                const std::string& local_size) {
    const std::string& launcher = environment.launcher;
    const auto number = [&](const std::string& name, std::int64_t low, std::int64_t high) {
        return static_cast<int>(variables.number(name, launcher, low, high));
    };
    environment.world_size = number(size, 1, kMaxRanks);
    environment.rank = number(rank, 0, environment.world_size - 1);
    // Without either there is one process per machine, as under Kubernetes.
    if (variables.has(local_rank) || variables.has(local_size)) {
        environment.local_world_size = number(local_size, 1, environment.world_size);
        environment.local_rank = number(local_rank, 0, environment.local_world_size - 1);
    }
}

void read_master(Environment& environment, const Variables& variables, bool wanted) {
    if (wanted || variables.has("MASTER_ADDR")) {
        environment.master_address = variables.text("MASTER_ADDR", environment.launcher);
    }
    if (wanted || variables.has("MASTER_PORT")) {
        environment.master_port = static_cast<std::uint16_t>(
            variables.number("MASTER_PORT", environment.launcher, 1, 65535));
    }
}

Environment read_torchrun(const Variables& variables) {
    Environment environment;
    environment.launcher = kTorchrun;
    read_ranks(environment, variables, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE");
    read_master(environment, variables, environment.world_size > 1);
    environment.agent_store = variables.find("TORCHELASTIC_USE_AGENT_STORE") == "True";
    environment.store_prefix = "matrix/" + variables.find("TORCHELASTIC_RUN_ID").value_or("none") +
                               "/" + variables.find("TORCHELASTIC_RESTART_COUNT").value_or("0");
    return environment;
}

Environment read_mpirun(const Variables& variables) {
    Environment environment;
    environment.launcher = kMpirun;
    read_ranks(environment, variables, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
               "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE");
    // Of Open MPI 4 and 5: two runs on one machine must not meet.
    for (const char* name : {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"}) {
        if (const auto job = variables.find(name)) {
            environment.master_port =
                port_of_job(std::stoull(hash_text(*job).substr(0, 8), nullptr, 16));
            environment.store_prefix = "matrix/" + *job;
            break;
        }
    }
    read_master(environment, variables, environment.world_size > environment.local_world_size);
    return environment;
}

}  // namespace

std::optional<std::string> process_variable(const std::string& name) {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') {
        return std::nullopt;
    }
    return value;
}

std::string Variables::text(const std::string& name, const std::string& launcher) const {
    if (std::optional<std::string> value = find(name)) {
        return *value;
    }
    throw UsageError(name + " is not set, though other variables of " + launcher +
                     " are: set it, or unset those to run one process");
}

std::int64_t Variables::number(const std::string& name, const std::string& launcher,
                               std::int64_t low, std::int64_t high) const {
    return parse_number(name, text(name, launcher), low, high);
}

std::int64_t parse_number(const std::string& name, const std::string& text, std::int64_t low,
                          std::int64_t high) {
    std::int64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [parsed, fault] = std::from_chars(text.data(), end, value);
    if (fault != std::errc() || parsed != end || value < low || value > high) {
        throw UsageError(name + " is \"" + text + "\": a whole number from " + std::to_string(low) +
                         " to " + std::to_string(high) + " is wanted");
    }
    return value;
}

Environment read_environment(const Lookup& lookup) {
    const Variables variables(lookup);
    if (variables.has("RANK") || variables.has("WORLD_SIZE")) {
        return read_torchrun(variables);
    }
    // Before Slurm: mpirun in a job of Slurm starts its processes by srun and leaves its variables.
    if (variables.has("OMPI_COMM_WORLD_RANK") || variables.has("OMPI_COMM_WORLD_SIZE")) {
        return read_mpirun(variables);
    }
    if (is_slurm_task(variables)) {
        Environment environment = read_slurm(variables);
        read_master(environment, variables, false);
        return environment;
    }
    return {};
}

}  // namespace matrix::distributed
