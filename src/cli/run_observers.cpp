#include "cli/run_observers.h"

#include <nlohmann/json.hpp>

#include "cli/tensorboard_observer.h"
#include "matrix/train/validation.h"
#ifdef MATRIX_WITH_ENCODERS
#include "cli/pictures/pictures_observer.h"
#include "cli/samples/samples_observer.h"
#endif

namespace matrix::cli {
namespace {

/// Adds `validation` to the records of every n-th step.
class ValidationObserver final : public train::StepObserver {
public:
    ValidationObserver(const RunConfig& config, const train::RunParts& parts,
                       const data_cache::SampleSource* held_out)
        : config_(config), parts_(parts), held_out_(held_out) {}

    void at_start(std::int64_t) override {}

    void after_step(std::int64_t step, nlohmann::json& record, const nlohmann::json&) override {
        if (step % config_.validation.every_steps != 0 && step != config_.train.steps) {
            return;
        }
        record["validation"] = train::validate_sets(parts_, config_.alignment, held_out_);
    }

    void at_end(std::int64_t) override {}

private:
    const RunConfig& config_;
    const train::RunParts& parts_;
    const data_cache::SampleSource* held_out_;
};

}  // namespace

RunObservers::RunObservers(const RunConfig& config, const train::RunParts& parts,
                           const data_cache::SampleSource* held_out) {
    if (config.validation.every_steps > 0) {
        observers_.push_back(std::make_unique<ValidationObserver>(config, parts, held_out));
    }
    // After validation, whose scores they show.
    TensorBoardObserver* board = nullptr;
    if (parts.ranks.is_main()) {
        auto observer = std::make_unique<TensorBoardObserver>(config.output);
        board = observer.get();
        observers_.push_back(std::move(observer));
    }
#ifdef MATRIX_WITH_ENCODERS
    if (config.validation.samples.every_steps > 0) {
        observers_.push_back(std::make_unique<samples::SamplesObserver>(config, parts, held_out));
    }
    observers_.push_back(
        std::make_unique<pictures::PicturesObserver>(config, parts, held_out, board));
#else
    static_cast<void>(board);
#endif
}

RunObservers::~RunObservers() = default;

std::vector<train::StepObserver*> RunObservers::list() const {
    std::vector<train::StepObserver*> list;
    for (const auto& observer : observers_) {
        list.push_back(observer.get());
    }
    return list;
}

}  // namespace matrix::cli
