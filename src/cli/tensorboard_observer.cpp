#include "cli/tensorboard_observer.h"

#include <nlohmann/json.hpp>

namespace matrix::cli {
namespace {

void collect(const nlohmann::json& value, const std::string& path,
             train::TensorBoardWriter::Scalars& into) {
    if (value.is_object()) {
        for (const auto& [key, child] : value.items()) {
            collect(child, path.empty() ? key : path + "/" + key, into);
        }
    } else if (value.is_number()) {
        into.emplace_back(path, value.get<double>());
    }
}

}  // namespace

train::TensorBoardWriter::Scalars scalars_of(const nlohmann::json& record) {
    train::TensorBoardWriter::Scalars scalars;
    collect(record, "", scalars);
    std::erase_if(scalars, [](const auto& scalar) { return scalar.first == "step"; });
    return scalars;
}

void TensorBoardObserver::at_start(std::int64_t step) {
    writer_ = std::make_unique<train::TensorBoardWriter>(run_ / "tensorboard", step);
}

void TensorBoardObserver::after_step(std::int64_t step, nlohmann::json& record,
                                     const nlohmann::json& performance) {
    nlohmann::json all = record;
    all["performance"] = performance;
    all["performance"].erase("step");
    writer_->write(step, scalars_of(all));
}

}  // namespace matrix::cli
