// Writes checkpoints in the background until it is killed: checkpoint_child RUN FIRST_STEP WHERE
// FRACTION. Prints each step whose write is known to be done. WHERE is "anywhere", or
// "before_rename" to die by its own hand in the third write.
#include <signal.h>
#include <sys/prctl.h>

#include <cstdio>
#include <string>

#include "train/numbered_checkpoint.h"

int main(int argc, char** argv) {
    using namespace matrix;
    constexpr std::int64_t kMostSteps = 10'000;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc != 5) {
        return 2;
    }
    const std::int64_t first = std::stoll(argv[2]);
    const double fraction = std::stod(argv[4]);
    const bool before_rename = std::string(argv[3]) == "before_rename";
    train::CheckpointWriter writer(argv[1], 2, train::BestRule::of("loss_denoise"));
    for (std::int64_t step = first; step < first + kMostSteps; ++step) {
        writer.write(test::numbered_snapshot(step, fraction), [&, step] {
            if (before_rename && step == first + 2) {
                ::raise(SIGKILL);
            }
        });
        std::printf("%lld\n", static_cast<long long>(step - 1));
        std::fflush(stdout);
    }
    return 0;
}
