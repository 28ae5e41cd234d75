#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "matrix/distributed/communicator.h"

namespace matrix::distributed {

// Exchanges made of those of a Communicator: every rank of the group calls them at the same place,
// with the same `what`. They return when the own result is there, and fail as Communicator says.

/// Every rank's text, by rank. Any bytes, of any length.
[[nodiscard]] std::vector<std::string> gather_text(Communicator& group, const std::string& own,
                                                   std::string_view what);

/// Runs `decide` on rank 0 alone, with the phase `what`; its result reaches every rank. An Error
/// that it throws is thrown on every rank, as the same kind with the same faults. Another exception
/// goes on through rank 0 and becomes a RunError with its first line on the other ranks. They wait
/// for `decide` no longer than the timeout.
[[nodiscard]] std::string from_rank_0(Communicator& group,
                                      const std::function<std::string()>& decide,
                                      std::string_view what);

/// root's values reach the tensors of every rank, in place and bit for bit. Every rank has as many
/// tensors, of the same shapes and dtypes in the same order; they may be of any dtype and on any
/// device, not contiguous, and leaves that require a gradient. They travel 32 MiB at a time, packed
/// into a buffer on the group's device (larger, where a single tensor is).
void broadcast_tensors(Communicator& group, const std::vector<at::Tensor>& tensors, int root,
                       std::string_view what);

/// RunError on every rank, unless all ranks hold the same texts under the same names: it says which
/// ranks differ from rank 0 and in which names (three of them at most), and shows no text.
void check_equal(Communicator& group,
                 const std::vector<std::pair<std::string, std::string>>& named_texts,
                 std::string_view what);

}  // namespace matrix::distributed
