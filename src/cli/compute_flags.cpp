#include "cli/compute_flags.h"

#include <ATen/Context.h>
#include <CLI/CLI.hpp>

#include "matrix/core/cuda_device.h"
#include "matrix/core/error.h"

namespace matrix::cli {

void add_compute_flags(CLI::App& command, std::string& dtype, std::string& device) {
    command.add_option("--dtype", dtype, "Compute dtype")
        ->check(CLI::IsMember({"float32", "bfloat16"}))
        ->capture_default_str();
    command.add_option("--device", device, "Device")
        ->check(CLI::IsMember({"cpu", "cuda"}))
        ->capture_default_str();
}

c10::Device compute_device(const std::string& name) {
    if (name == "cpu") {
        return at::kCPU;
    }
    if (!at::globalContext().hasCUDA()) {
        throw RunError("--device: cuda was asked for and no GPU is available");
    }
    return cuda_device(0);
}

}  // namespace matrix::cli
