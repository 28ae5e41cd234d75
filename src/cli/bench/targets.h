#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/bench/request.h"

namespace matrix::cli::bench {

/// One part of the program, made ready to run again and again.
struct Work {
    std::function<void()> run;
    nlohmann::json facts = nlohmann::json::object();  ///< of its inputs, for the conditions
    std::int64_t moved_bytes = 0;                     ///< that a run brings in; 0: not its purpose
};

struct Target {
    std::string name;
    std::string description;
    bool takes_shape;  ///< --shape and --batch, beside --preset
    Work (*prepare)(const Request&);
};

/// Every target but `step`.
[[nodiscard]] const std::vector<Target>& targets();

/// Measures any of them.
[[nodiscard]] nlohmann::json bench_target(const Target& target, const Request& request);

Work prepare_forward(const Request& request);
Work prepare_attention(const Request& request);
Work prepare_readout(const Request& request);
Work prepare_vae(const Request& request);
Work prepare_t5(const Request& request);
Work prepare_load(const Request& request);
Work prepare_data(const Request& request);

}  // namespace matrix::cli::bench
