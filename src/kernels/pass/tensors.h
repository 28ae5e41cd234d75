#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/pass/element.h"

// From tensors to the passes of this folder.

namespace matrix::kernels::pass {

/// Calls visit(T()) with the element type that the passes have for the tensor.
template <class Visit>
void with_element_of(const at::Tensor& x, Visit visit) {
    if (x.scalar_type() == at::kFloat) {
        visit(float());
    } else {
        visit(Bfloat16());
    }
}

template <class T>
T* data(const at::Tensor& x) {
    return static_cast<T*>(x.data_ptr());
}

}  // namespace matrix::kernels::pass
