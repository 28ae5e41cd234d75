#include "distributed/checks.h"

#include <c10/util/Exception.h>

#include <vector>

namespace matrix::distributed {

void check_tensor(const at::Tensor& tensor, const char* name) {
    TORCH_CHECK(tensor.defined() && tensor.is_contiguous(), name,
                ": a contiguous tensor is wanted for an exchange");
}

void check_gathered(const at::Tensor& many, const at::Tensor& one, int world_size) {
    check_tensor(many, "all ranks' tensor");
    check_tensor(one, "one rank's tensor");
    std::vector<std::int64_t> wanted = one.sizes().vec();
    wanted.insert(wanted.begin(), world_size);
    TORCH_CHECK(many.sizes() == wanted && many.scalar_type() == one.scalar_type(),
                "all ranks' tensor is ", many.sizes(), " of ", many.scalar_type(), "; ",
                at::IntArrayRef(wanted), " of ", one.scalar_type(), " is wanted");
}

}  // namespace matrix::distributed
