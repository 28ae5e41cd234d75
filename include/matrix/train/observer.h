#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>

namespace matrix::train {

/// Called by the loop, never inside a step: validation, pictures, plots. The program fills it in;
/// the trainer knows none.
class StepObserver {
public:
    virtual ~StepObserver() = default;
    /// Before the first step of this process; `step` steps are done.
    virtual void at_start(std::int64_t step) = 0;
    /// After `step` steps are done; may add to the step's record before it is written.
    /// `performance` is what the step cost (train/performance.h).
    virtual void after_step(std::int64_t step, nlohmann::json& record,
                            const nlohmann::json& performance) = 0;
    /// After `step`'s record was written and its checkpoint, if it has one, was taken; not after
    /// the step at which a signal ends the run.
    virtual void after_saving(std::int64_t) {}
    /// After the last step and its checkpoint.
    virtual void at_end(std::int64_t step) = 0;
};

}  // namespace matrix::train
