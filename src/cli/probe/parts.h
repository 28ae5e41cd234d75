#pragma once

#include <string>
#include <vector>

#include "cli/probe/request.h"

namespace matrix::cli::probe {

/// One part of the program, runnable on given tensors. Besides its own it takes --part, --outputs,
/// --dtype and --device.
struct Part {
    std::string name;
    std::vector<std::string> required;  ///< flags
    std::vector<std::string> optional;
    Result (*run)(const Request&);
};

[[nodiscard]] const std::vector<Part>& parts();

// backbone.cpp
[[nodiscard]] Result run_transformer(const Request& request);
[[nodiscard]] Result run_rope(const Request& request);
// encoders.cpp
[[nodiscard]] Result run_vae_encode(const Request& request);
[[nodiscard]] Result run_vae_decode(const Request& request);
// prompts.cpp
[[nodiscard]] Result run_tokenizer(const Request& request);
[[nodiscard]] Result run_text(const Request& request);
// schedule.cpp
[[nodiscard]] Result run_scheduler_train(const Request& request);
// sampling.cpp
[[nodiscard]] Result run_scheduler_step(const Request& request);
[[nodiscard]] Result run_sample(const Request& request);
// generate.cpp
[[nodiscard]] Result run_generate(const Request& request);
// readouts.cpp
[[nodiscard]] Result run_readout(const Request& request);
[[nodiscard]] Result run_loss(const Request& request);
[[nodiscard]] Result run_head(const Request& request);
// objective.cpp
[[nodiscard]] Result run_objective(const Request& request);
// data.cpp
[[nodiscard]] Result run_data(const Request& request);

}  // namespace matrix::cli::probe
