#pragma once

#include <string>

#include "distributed/variables.h"

namespace matrix::distributed {

/// Whether srun started this process, which then is a task of a step. The batch script and
/// interactive shells have SLURM_PROCID too, and SLURM_NTASKS of a step that was never started.
[[nodiscard]] bool is_slurm_task(const Variables& variables);

/// All but MASTER_ADDR and MASTER_PORT, in whose place stand the first host and a port from the
/// job.
[[nodiscard]] Environment read_slurm(const Variables& variables);

/// The first host of a list as Slurm writes them: "node[03-07,9],gpu1" has node03.
[[nodiscard]] std::string first_host(const std::string& node_list);

/// "4(x2),3" says 4 tasks on nodes 0 and 1, 3 on node 2. UsageError for another form or length.
[[nodiscard]] int tasks_on_node(const std::string& tasks_per_node, int node);

}  // namespace matrix::distributed
