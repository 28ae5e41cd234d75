#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "matrix/alignment/config.h"
#include "matrix/tensor_io/safetensors.h"

// Letters of all probe parts: B batch, F latent frames, C channels, h x w latents, T = 4(F-1)+1
// pixel frames, L text rows, E entities, N interactions, gh x gw = h/2 x w/2 cells.

namespace matrix::cli::probe {

/// The command line. A part sees a flag's default unless the flag was given, and flags that it does
/// not take never are.
struct Request {
    std::string part;
    std::string outputs;
    std::string model, inputs, adapter, config, save_checkpoint;
    std::optional<std::string> prompt, prompts;
    std::string dtype_name = "float32", device_name = "cpu";
    std::string readout = "logits", head, heads = "decoder";
    std::vector<std::string> assignments;
    std::int64_t frames = 0, height = 0, width = 0, index = 0;
    std::int64_t steps = 0;
    std::string scheduler;
    double guidance = 0.0, perturbation_scale = 1.0;
    std::vector<std::int64_t> cmg_blocks, cag_blocks;
    std::uint64_t seed = 0;
    bool grad = false, tiling = false, dynamic_cfg = false;

    [[nodiscard]] at::ScalarType dtype() const;
    [[nodiscard]] at::Device device() const;
    /// `<model>/<name>`
    [[nodiscard]] std::filesystem::path component(const std::string& name) const;
};

/// What a part gives. `after`, if any, runs once the outputs are on disk; like those of any failure
/// they are taken away again if it throws.
struct Result {
    tensor_io::TensorMap outputs;
    std::function<void()> after;
};

/// The input file. Every fault is a RunError naming file and tensor; shapes and dtypes are checked
/// before anything is copied.
class Inputs {
public:
    explicit Inputs(const Request& request);

    /// -1 in `shape` stands for any size of at least 0.
    [[nodiscard]] at::Tensor floating(const std::string& name, at::IntArrayRef shape) const;
    /// Brought to `dtype` instead of the compute dtype.
    [[nodiscard]] at::Tensor floating(const std::string& name, at::IntArrayRef shape,
                                      at::ScalarType dtype) const;
    /// Of any shape.
    [[nodiscard]] at::Tensor any_floating(const std::string& name, at::ScalarType dtype) const;
    [[nodiscard]] at::Tensor integers(const std::string& name, at::IntArrayRef shape,
                                      at::ScalarType dtype) const;

    /// RunError about a tensor's values or sizes.
    [[noreturn]] void fail(const std::string& name, const std::string& fault) const;

private:
    [[nodiscard]] at::Tensor checked(const std::string& name, at::IntArrayRef shape) const;
    [[nodiscard]] at::Tensor converted(const std::string& name, const at::Tensor& tensor,
                                       at::ScalarType dtype) const;

    tensor_io::SafetensorsFile file_;
    at::ScalarType dtype_;
    at::Device device_;
};

/// The alignment block with the request's assignments. UsageError for a field that is not below one
/// of `allowed`
/// ("alignment.bce"; "alignment" for all of it), is unknown, or has a wrong value.
[[nodiscard]] alignment::AlignmentConfig alignment_config(const Request& request,
                                                          const std::vector<std::string>& allowed);

/// A tensor of its own that gathers a gradient if the request wants gradients.
[[nodiscard]] at::Tensor leaf(const at::Tensor& value, const Request& request);

/// Gradients of sum(output * cotangent); zeros where the output does not depend on an input.
[[nodiscard]] std::vector<at::Tensor> gradients(const at::Tensor& output,
                                                const at::Tensor& cotangent,
                                                const std::vector<at::Tensor>& inputs);

}  // namespace matrix::cli::probe
