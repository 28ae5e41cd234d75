#pragma once

#include "matrix/alignment/objective.h"

#include <cstdint>
#include <vector>

namespace matrix::alignment {

constexpr std::int64_t kGroundingEntities = 3;    // subject, object, verb
constexpr std::int64_t kPropagationEntities = 2;  // subject, object

/// Which entities of a batch count in one term, on the host.
struct Presence {
    /// [b][n][e]
    std::vector<std::vector<std::vector<bool>>> counted;
    /// Interactions of sample b with at least one counted entity.
    std::vector<std::int64_t> interactions;
    std::int64_t num_counted = 0;
    /// Entities of real interactions (rows that are not all zero) that do not count.
    std::int64_t num_skipped = 0;
};

struct BatchPresence {
    Presence sga;  ///< at least one token and one mask pixel; the verb's mask is the union
    Presence spa;  ///< at least one first-frame cell
};

/// Reads the supervision on the host; masks on a GPU cost a synchronisation.
[[nodiscard]] BatchPresence find_presence(const Supervision& supervision);

/// Shapes of a supervision that belong together; TORCH_CHECK otherwise.
void check_supervision(const Supervision& supervision, const nn::TokenLayout& layout);

}  // namespace matrix::alignment
