#pragma once

#include <c10/core/Device.h>

#include <string>

namespace CLI {
class App;
}

namespace matrix::cli {

/// --dtype and --device of commands that run parts of the program. Both strings hold the defaults.
void add_compute_flags(CLI::App& command, std::string& dtype, std::string& device);

/// "cpu" or "cuda", as --device gave it. RunError for a GPU that there is not.
[[nodiscard]] c10::Device compute_device(const std::string& name);

}  // namespace matrix::cli
