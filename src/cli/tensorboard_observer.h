#pragma once

#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <memory>

#include "matrix/train/observer.h"
#include "matrix/train/tensorboard.h"

namespace matrix::cli {

/// Every number of a step's record as a scalar, its name the path of keys
/// ("validation/train/auc_v2t").
[[nodiscard]] train::TensorBoardWriter::Scalars scalars_of(const nlohmann::json& record);

/// Writes what the observers before it left in the record to <run>/tensorboard.
class TensorBoardObserver final : public train::StepObserver {
public:
    explicit TensorBoardObserver(std::filesystem::path run) : run_(std::move(run)) {}

    void at_start(std::int64_t step) override;
    void after_step(std::int64_t step, nlohmann::json& record,
                    const nlohmann::json& performance) override;
    void at_end(std::int64_t) override {}

    /// A picture of a step, for observers that draw; after `at_start`.
    void add_image(std::int64_t step, const train::TensorBoardWriter::Image& image) {
        writer_->write(step, image);
    }

private:
    std::filesystem::path run_;
    std::unique_ptr<train::TensorBoardWriter> writer_;
};

}  // namespace matrix::cli
