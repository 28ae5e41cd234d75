#pragma once

#include "matrix/lora/adapter.h"

#include <map>
#include <optional>
#include <string>

namespace matrix::lora {

/// As long as it lives, a model has the deltas and the input projection of `adapter`, and no other
/// delta, in place of its own, which keep their values and gradients and come back with its end.
/// RunError as for `attach`; the model is then as it was.
class StandIn {
public:
    StandIn(nn::Adaptable& model, const Adapter& adapter);
    ~StandIn();
    StandIn(const StandIn&) = delete;
    StandIn& operator=(const StandIn&) = delete;

private:
    void restore();

    nn::Adaptable& model_;
    std::map<std::string, std::optional<nn::LowRankDelta>> deltas_;
    at::Tensor projection_weight_, projection_bias_;
};

}  // namespace matrix::lora
