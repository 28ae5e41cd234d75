#pragma once

#include "matrix/lora/adapter.h"

#include <string>
#include <vector>

namespace matrix::lora {

/// What keeps a run of `config` from starting with `adapter` (read from `path`), one line each that
/// names the field and the adapter: a larger rank, linears that the run does not train, a
/// projection that trains in another way. `in_channels`: of the run's model.
[[nodiscard]] std::vector<std::string> check_start(const LoraConfig& config,
                                                   std::int64_t in_channels, const Adapter& adapter,
                                                   const std::string& path);

/// Gives what `attach_new` made the values of an adapter, whose effect is then the model's:
/// B is scaled by the adapter's strength over the config's; where the adapter has a smaller rank,
/// or a row of A or a column of B that is all zero (an export fills smaller ranks up), the rows of
/// A stay random and the columns of B zero, so that they can train; where it has no delta, or fewer
/// input channels, nothing is added. A projection that trains whole takes the adapter's weight and
/// bias, and has its LoRA added. The adapter has passed `check_start`. RunError for shapes that do
/// not fit the model.
void start_from(nn::Adaptable& model, const LoraConfig& config, const Adapter& adapter);

}  // namespace matrix::lora
