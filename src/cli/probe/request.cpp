#include "cli/probe/request.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "cli/compute_flags.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"

namespace matrix::cli::probe {
namespace {

bool below(std::string_view path, const std::string& root) {
    return path == root || (path.starts_with(root) && path[root.size()] == '.');
}

}  // namespace

at::ScalarType Request::dtype() const {
    return parse_compute_dtype(dtype_name, "--dtype");
}

at::Device Request::device() const {
    return compute_device(device_name);
}

std::filesystem::path Request::component(const std::string& name) const {
    return std::filesystem::path(model) / name;
}

Inputs::Inputs(const Request& request)
    : file_(request.inputs), dtype_(request.dtype()), device_(request.device()) {}

void Inputs::fail(const std::string& name, const std::string& fault) const {
    throw RunError(file_.path().string() + ": " + name + ": " + fault);
}

at::Tensor Inputs::checked(const std::string& name, at::IntArrayRef shape) const {
    if (!file_.contains(name)) {
        fail(name, "missing, expected shape " + shape_text(shape));
    }
    const at::Tensor tensor = file_.tensor(name);
    expect_shape(tensor, shape, file_.path().string() + ": " + name);
    return tensor;
}

at::Tensor Inputs::floating(const std::string& name, at::IntArrayRef shape) const {
    return floating(name, shape, dtype_);
}

at::Tensor Inputs::floating(const std::string& name, at::IntArrayRef shape,
                            at::ScalarType dtype) const {
    return converted(name, checked(name, shape), dtype);
}

at::Tensor Inputs::any_floating(const std::string& name, at::ScalarType dtype) const {
    if (!file_.contains(name)) {
        fail(name, "missing");
    }
    return converted(name, file_.tensor(name), dtype);
}

at::Tensor Inputs::converted(const std::string& name, const at::Tensor& tensor,
                             at::ScalarType dtype) const {
    if (!at::isFloatingType(tensor.scalar_type())) {
        fail(name, "dtype " + dtype_text(tensor.scalar_type()) + ", expected a floating dtype");
    }
    return tensor.to(device_, dtype);
}

at::Tensor Inputs::integers(const std::string& name, at::IntArrayRef shape,
                            at::ScalarType dtype) const {
    const at::Tensor tensor = checked(name, shape);
    if (tensor.scalar_type() != dtype) {
        fail(name, "dtype " + dtype_text(tensor.scalar_type()) + ", expected " + dtype_text(dtype));
    }
    return tensor.to(device_);
}

alignment::AlignmentConfig alignment_config(const Request& request,
                                            const std::vector<std::string>& allowed) {
    alignment::AlignmentConfig config;
    FieldTable table;
    table.add_section("alignment", alignment::fields(config), "");
    std::vector<std::string> faults;
    for (const std::string& assignment : request.assignments) {
        const std::string path = assignment.substr(0, assignment.find('='));
        bool taken = false;
        for (const std::string& root : allowed) {
            taken = taken || below(path, root);
        }
        if (taken) {
            table.set(assignment, faults);
        } else {
            faults.push_back("--set " + path + ": not a field that the part " + request.part +
                             " takes");
        }
    }
    if (!faults.empty()) {
        throw UsageError(std::move(faults));
    }
    return config;
}

at::Tensor leaf(const at::Tensor& value, const Request& request) {
    return value.detach().set_requires_grad(request.grad);
}

std::vector<at::Tensor> gradients(const at::Tensor& output, const at::Tensor& cotangent,
                                  const std::vector<at::Tensor>& inputs) {
    std::vector<at::Tensor> result(inputs.size());
    if (output.requires_grad()) {
        result = torch::autograd::grad({output}, inputs, {cotangent.to(output.scalar_type())},
                                       /*retain_graph=*/false,
                                       /*create_graph=*/false, /*allow_unused=*/true);
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (!result[i].defined()) {
            result[i] = at::zeros_like(inputs[i]);
        }
    }
    return result;
}

}  // namespace matrix::cli::probe
