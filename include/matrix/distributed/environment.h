#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace matrix::distributed {

/// Where this process stands among those that a launcher started together.
struct Environment {
    int rank = 0;
    int world_size = 1;
    int local_rank = 0;  ///< among the processes of this machine: the index of its GPU
    int local_world_size = 1;
    std::string master_address = "127.0.0.1";  ///< the machine of rank 0, which hosts the store
    std::uint16_t master_port = 29500;
    bool agent_store = false;  ///< the launcher hosts the store itself: no rank opens one
    /// Put before every key of the store, so that a restarted group never reads what the last left.
    std::string store_prefix = "matrix";
    std::string launcher = "none";  ///< torchrun, mpirun, srun or none
};

using Lookup = std::function<std::optional<std::string>(const std::string& name)>;

/// A variable of this process; one that is set but empty counts as not set.
[[nodiscard]] std::optional<std::string> process_variable(const std::string& name);

/// Reads what the launcher set; the first of these that is there counts:
///   torchrun, or whoever sets the same   RANK and WORLD_SIZE; LOCAL_RANK and LOCAL_WORLD_SIZE
///   (both
///                      or neither: one process per machine); MASTER_ADDR and MASTER_PORT (wanted
///                      for more than one process); TORCHELASTIC_{USE_AGENT_STORE, RUN_ID,
///                      RESTART_COUNT}
///   Open MPI's mpirun  OMPI_COMM_WORLD_{RANK, SIZE, LOCAL_RANK, LOCAL_SIZE}; MASTER_ADDR and
///                      MASTER_PORT, wanted over several machines, on one from PMIX_NAMESPACE or
///                      OMPI_MCA_ess_base_jobid
///   Slurm's srun       SLURM_STEP_ID, SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID,
///                      SLURM_STEP_TASKS_PER_NODE with SLURM_NODEID, or SLURM_NTASKS_PER_NODE. The
///                      address is the first host of SLURM_STEP_NODELIST and the port comes from
///                      SLURM_JOB_ID, unless MASTER_ADDR and MASTER_PORT say otherwise
/// Without any of them, and in a batch script or a shell of Slurm, which are no tasks of a step, it
/// is rank 0 of 1. UsageError, naming the variable, where one is missing, is no number or out of
/// its range.
[[nodiscard]] Environment read_environment(const Lookup& lookup = process_variable);

}  // namespace matrix::distributed
