#include "models/t5/relative_position.h"

#include <ATen/ATen.h>

#include <cmath>

namespace matrix::models {

at::Tensor relative_position_bucket(const at::Tensor& relative_position, std::int64_t num_buckets,
                                    std::int64_t max_distance) {
    const std::int64_t half = num_buckets / 2;
    const std::int64_t num_exact = half / 2;
    const double ratio = static_cast<double>(max_distance) / static_cast<double>(num_exact);
    const at::Tensor distance = relative_position.abs();
    // float32 and in the reference's order, since the rounding decides the bucket. Distance 0 gives
    // minus infinity; the clamp keeps the unused value defined.
    const at::Tensor far = (at::log(distance.to(at::kFloat) / num_exact) / std::log(ratio) *
                            static_cast<double>(half - num_exact))
                               .clamp_min(0)
                               .to(at::kLong)
                               .add(num_exact)
                               .clamp_max(half - 1);
    return relative_position.gt(0).to(at::kLong) * half +
           at::where(distance.lt(num_exact), distance, far);
}

}  // namespace matrix::models
