#include "matrix/distributed/environment.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "support/errors.h"

namespace matrix::distributed {
namespace {

using Values = std::map<std::string, std::string>;

Environment read(const Values& values) {
    return read_environment([&](const std::string& name) -> std::optional<std::string> {
        const auto found = values.find(name);
        return found == values.end() ? std::nullopt : std::optional(found->second);
    });
}

/// With single values changed, or taken out where the new one is empty.
Values with(Values values, const Values& changes) {
    for (const auto& [name, value] : changes) {
        if (value.empty()) {
            values.erase(name);
        } else {
            values[name] = value;
        }
    }
    return values;
}

const Values kTorchrun{{"RANK", "3"},           {"WORLD_SIZE", "4"},
                       {"LOCAL_RANK", "1"},     {"LOCAL_WORLD_SIZE", "2"},
                       {"MASTER_ADDR", "head"}, {"MASTER_PORT", "1234"}};
const Values kMpirun{{"OMPI_COMM_WORLD_RANK", "1"},
                     {"OMPI_COMM_WORLD_SIZE", "2"},
                     {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                     {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
const Values kSrun{{"SLURM_STEP_ID", "0"},
                   {"SLURM_PROCID", "5"},
                   {"SLURM_NTASKS", "7"},
                   {"SLURM_LOCALID", "1"},
                   {"SLURM_NODEID", "1"},
                   {"SLURM_STEP_TASKS_PER_NODE", "4,3"},
                   {"SLURM_STEP_NODELIST", "node[03-07,9],gpu1"},
                   {"SLURM_JOB_ID", "4020007"}};

struct Good {
    std::string name;
    Values values;
    Environment wanted;
};

class GoodEnvironment : public ::testing::TestWithParam<Good> {};

TEST_P(GoodEnvironment, IsRead) {
    const Environment got = read(GetParam().values);
    const Environment& wanted = GetParam().wanted;
    EXPECT_EQ(got.rank, wanted.rank);
    EXPECT_EQ(got.world_size, wanted.world_size);
    EXPECT_EQ(got.local_rank, wanted.local_rank);
    EXPECT_EQ(got.local_world_size, wanted.local_world_size);
    EXPECT_EQ(got.master_address, wanted.master_address);
    EXPECT_EQ(got.master_port, wanted.master_port);
    EXPECT_EQ(got.agent_store, wanted.agent_store);
    EXPECT_EQ(got.store_prefix, wanted.store_prefix);
    EXPECT_EQ(got.launcher, wanted.launcher);
}

const std::vector<Good> kGood{
    {"Nothing", {}, {}},
    {"MasterAlone", {{"MASTER_ADDR", "x"}, {"MASTER_PORT", "no"}}, {}},
    {"Torchrun", kTorchrun, {3, 4, 1, 2, "head", 1234, false, "matrix/none/0", "torchrun"}},
    {"TorchrunAgentStore",
     with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "True"},
                      {"TORCHELASTIC_RUN_ID", "run7"},
                      {"TORCHELASTIC_RESTART_COUNT", "2"}}),
     {3, 4, 1, 2, "head", 1234, true, "matrix/run7/2", "torchrun"}},
    {"OneProcessPerPod",
     with(kTorchrun, {{"LOCAL_RANK", ""}, {"LOCAL_WORLD_SIZE", ""}}),
     {3, 4, 0, 1, "head", 1234, false, "matrix/none/0", "torchrun"}},
    {"TorchrunOfOne",
     {{"RANK", "0"}, {"WORLD_SIZE", "1"}},
     {0, 1, 0, 1, "127.0.0.1", 29500, false, "matrix/none/0", "torchrun"}},
    {"Mpirun", kMpirun, {1, 2, 1, 2, "127.0.0.1", 29500, false, "matrix", "mpirun"}},
    {"MpirunJob",
     with(kMpirun, {{"PMIX_NAMESPACE", "prterun-n1-7@1"}, {"OMPI_MCA_ess_base_jobid", "9"}}),
     {1, 2, 1, 2, "127.0.0.1", 17947, false, "matrix/prterun-n1-7@1", "mpirun"}},
    {"MpirunJobOfOldOpenMpi",
     with(kMpirun,
          {{"OMPI_MCA_ess_base_jobid", "9"}, {"MASTER_PORT", "77"}, {"MASTER_ADDR", "n1"}}),
     {1, 2, 1, 2, "n1", 77, false, "matrix/9", "mpirun"}},
    {"MpirunOverMachines",
     with(kMpirun, {{"OMPI_COMM_WORLD_SIZE", "8"}, {"MASTER_ADDR", "n1"}, {"MASTER_PORT", "77"}}),
     {1, 8, 1, 2, "n1", 77, false, "matrix", "mpirun"}},
    {"Srun", kSrun, {5, 7, 1, 3, "node03", 10007, false, "matrix/4020007.0", "srun"}},
    {"SrunWithAddress",
     with(kSrun, {{"MASTER_ADDR", "a"}, {"MASTER_PORT", "99"}, {"SLURM_STEP_NODELIST", ""}}),
     {5, 7, 1, 3, "a", 99, false, "matrix/4020007.0", "srun"}},
    {"SrunRepeatedCounts",
     with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"}, {"SLURM_NODEID", "2"}}),
     {5, 7, 1, 2, "node03", 10007, false, "matrix/4020007.0", "srun"}},
    {"SrunTasksPerNode",
     with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", ""}, {"SLURM_NTASKS_PER_NODE", "4"}}),
     {5, 7, 1, 4, "node03", 10007, false, "matrix/4020007.0", "srun"}},
    {"SrunOneNode",
     with(kSrun, {{"SLURM_STEP_NODELIST", "gpu-a1"}}),
     {5, 7, 1, 3, "gpu-a1", 10007, false, "matrix/4020007.0", "srun"}},
    {"SrunTwoRanges",
     with(kSrun, {{"SLURM_STEP_NODELIST", "r[1-2]n[07,09-11]-ib,x"}}),
     {5, 7, 1, 3, "r1n07-ib", 10007, false, "matrix/4020007.0", "srun"}},
    {"BatchScript", with(kSrun, {{"SLURM_STEP_ID", ""}}), {}},
    {"BatchStep", with(kSrun, {{"SLURM_STEP_ID", "4294967291"}}), {}},
    {"AllocationWithoutTask", with(kSrun, {{"SLURM_PROCID", ""}}), {}},
    {"TorchrunInSlurm",
     with(kSrun, kTorchrun),
     {3, 4, 1, 2, "head", 1234, false, "matrix/none/0", "torchrun"}},
    {"MpirunInSlurm",
     with(kSrun, kMpirun),
     {1, 2, 1, 2, "127.0.0.1", 29500, false, "matrix", "mpirun"}},
};

INSTANTIATE_TEST_SUITE_P(Environment, GoodEnvironment, ::testing::ValuesIn(kGood),
                         [](const auto& entry) { return entry.param.name; });

struct Bad {
    std::string name;
    Values values;
    std::string message;
};

class BadEnvironment : public ::testing::TestWithParam<Bad> {};

TEST_P(BadEnvironment, IsRefusedByName) {
    test::expect_error<UsageError>([] { (void)read(GetParam().values); }, {GetParam().message});
}

const std::vector<Bad> kBad{
    {"RankBeyondWorld", with(kTorchrun, {{"RANK", "4"}}),
     "RANK is \"4\": a whole number from 0 to 3"},
    {"NegativeRank", with(kTorchrun, {{"RANK", "-1"}}), "RANK is \"-1\""},
    {"RankInWords", with(kTorchrun, {{"RANK", "two"}}), "RANK is \"two\""},
    {"RankWithTail", with(kTorchrun, {{"RANK", "1x"}}), "RANK is \"1x\""},
    {"NoRank", with(kTorchrun, {{"RANK", ""}}), "RANK is not set"},
    {"NoWorldSize", with(kTorchrun, {{"WORLD_SIZE", ""}}), "WORLD_SIZE is not set"},
    {"EmptyWorld", with(kTorchrun, {{"WORLD_SIZE", "0"}}), "WORLD_SIZE is \"0\""},
    {"HugeWorld", with(kTorchrun, {{"WORLD_SIZE", "99999999999999999999"}}), "WORLD_SIZE is"},
    {"NoAddress", with(kTorchrun, {{"MASTER_ADDR", ""}}), "MASTER_ADDR is not set"},
    {"NoPort", with(kTorchrun, {{"MASTER_PORT", ""}}), "MASTER_PORT is not set"},
    {"PortTooLarge", with(kTorchrun, {{"MASTER_PORT", "65536"}}), "MASTER_PORT is \"65536\""},
    {"HalfLocal", with(kTorchrun, {{"LOCAL_WORLD_SIZE", ""}}), "LOCAL_WORLD_SIZE is not set"},
    {"OtherHalfLocal", with(kTorchrun, {{"LOCAL_RANK", ""}}), "LOCAL_RANK is not set"},
    {"LocalBeyond", with(kTorchrun, {{"LOCAL_RANK", "2"}}), "LOCAL_RANK is \"2\""},
    {"LocalWorldBeyondWorld", with(kTorchrun, {{"LOCAL_WORLD_SIZE", "5"}}),
     "LOCAL_WORLD_SIZE is \"5\""},
    {"MpirunWithoutSize", with(kMpirun, {{"OMPI_COMM_WORLD_SIZE", ""}}),
     "OMPI_COMM_WORLD_SIZE is not set, though other variables of mpirun are"},
    {"MpirunOverMachinesWithoutAddress", with(kMpirun, {{"OMPI_COMM_WORLD_SIZE", "4"}}),
     "MASTER_ADDR is not set"},
    {"SrunWithoutTasks", with(kSrun, {{"SLURM_NTASKS", ""}}), "SLURM_NTASKS is not set"},
    {"SrunRankBeyond", with(kSrun, {{"SLURM_PROCID", "7"}}), "SLURM_PROCID is \"7\""},
    {"SrunWithoutNodes", with(kSrun, {{"SLURM_STEP_NODELIST", ""}}),
     "SLURM_STEP_NODELIST is not set"},
    {"SrunOpenBracket", with(kSrun, {{"SLURM_STEP_NODELIST", "node[3-4"}}),
     "SLURM_STEP_NODELIST is \"node[3-4\""},
    {"SrunEmptyBracket", with(kSrun, {{"SLURM_STEP_NODELIST", "node[]"}}),
     "SLURM_STEP_NODELIST is \"node[]\""},
    {"SrunWithoutPerNode", with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", ""}}),
     "SLURM_NTASKS_PER_NODE is not set"},
    {"SrunPerNodeInWords", with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "many"}}),
     "SLURM_STEP_TASKS_PER_NODE is \"many\""},
    {"SrunPerNodeTooShort", with(kSrun, {{"SLURM_NODEID", "2"}}),
     "SLURM_STEP_TASKS_PER_NODE is \"4,3\""},
    {"SrunPerNodeOpen", with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "4(x2"}}),
     "SLURM_STEP_TASKS_PER_NODE is \"4(x2\""},
    {"SrunWithoutJob", with(kSrun, {{"SLURM_JOB_ID", ""}}), "SLURM_JOB_ID is not set"},
    {"SrunBadPort", with(kSrun, {{"MASTER_PORT", "http"}}), "MASTER_PORT is \"http\""},
};

INSTANTIATE_TEST_SUITE_P(Environment, BadEnvironment, ::testing::ValuesIn(kBad),
                         [](const auto& entry) { return entry.param.name; });

TEST(ProcessVariable, EmptyCountsAsNotSet) {
    ::setenv("MATRIX_TEST_VARIABLE", "", 1);
    EXPECT_EQ(process_variable("MATRIX_TEST_VARIABLE"), std::nullopt);
    ::setenv("MATRIX_TEST_VARIABLE", "x", 1);
    EXPECT_EQ(process_variable("MATRIX_TEST_VARIABLE"), "x");
    ::unsetenv("MATRIX_TEST_VARIABLE");
    EXPECT_EQ(process_variable("MATRIX_TEST_VARIABLE"), std::nullopt);
}

}  // namespace
}  // namespace matrix::distributed
