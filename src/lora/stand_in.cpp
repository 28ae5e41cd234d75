#include "matrix/lora/stand_in.h"

#include <utility>

namespace matrix::lora {

StandIn::StandIn(nn::Adaptable& model, const Adapter& adapter)
    : model_(model),
      projection_weight_(model.input_projection().weight),
      projection_bias_(model.input_projection().bias) {
    for (const auto& [name, linear] : model.adaptable_linears()) {
        deltas_[name] = std::exchange(linear->delta, std::nullopt);
    }
    try {
        attach(model, adapter, false);
    } catch (...) {
        restore();
        throw;
    }
}

StandIn::~StandIn() {
    restore();
}

void StandIn::restore() {
    for (const auto& [name, linear] : model_.adaptable_linears()) {
        linear->delta = std::move(deltas_[name]);
    }
    model_.input_projection().weight = projection_weight_;
    model_.input_projection().bias = projection_bias_;
}

}  // namespace matrix::lora
