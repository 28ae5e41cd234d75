#include "distributed/checks.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <functional>

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

void check_exchanged(const at::Tensor& output, const at::Tensor& input, int world_size) {
    check_tensor(output, "all_to_all's output");
    check_tensor(input, "all_to_all's input");
    TORCH_CHECK(input.dim() > 0 && input.size(0) == world_size && output.sizes() == input.sizes() &&
                    output.scalar_type() == input.scalar_type(),
                "all_to_all among ", world_size, ": input ", input.sizes(), " of ",
                input.scalar_type(), ", output ", output.sizes(), " of ", output.scalar_type());
}

void check_members(const std::vector<int>& ranks, int rank, int world_size) {
    const bool is_ascending =
        std::adjacent_find(ranks.begin(), ranks.end(), std::greater_equal<>()) == ranks.end();
    TORCH_CHECK(is_ascending && !ranks.empty() && 0 <= ranks.front() && ranks.back() < world_size,
                "a subgroup of ranks ", at::ArrayRef<int>(ranks), " of ", world_size,
                ": ascending ranks of the group are wanted");
    TORCH_CHECK(std::find(ranks.begin(), ranks.end(), rank) != ranks.end(), "rank ", rank,
                " makes a subgroup of ranks ", at::ArrayRef<int>(ranks), " without itself");
}

}  // namespace matrix::distributed
