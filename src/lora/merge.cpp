#include "matrix/lora/merge.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string_view>

#include "lora/names.h"
#include "lora/zero_padded.h"

namespace matrix::lora {
namespace {

constexpr std::string_view kWeight = ".weight";

/// The delta on a checkpoint's tensor, or null.
const nn::LowRankDelta* delta_of(const Adapter& adapter, const std::string& key) {
    if (!key.ends_with(kWeight)) {
        return nullptr;
    }
    const auto found = adapter.deltas.find(key.substr(0, key.size() - kWeight.size()));
    return found == adapter.deltas.end() ? nullptr : &found->second;
}

bool is_projection_weight(const std::string& key) {
    return key == std::string(kProjection) + ".weight";
}

bool is_projection_bias(const std::string& key) {
    return key == std::string(kProjection) + ".bias";
}

}  // namespace

bool changes(const Adapter& adapter, const std::string& key) {
    return delta_of(adapter, key) != nullptr ||
           (is_projection_weight(key) && adapter.projection_weight.defined()) ||
           (is_projection_bias(key) && adapter.projection_bias.defined());
}

at::Tensor merged(const Adapter& adapter, const std::string& key, const at::Tensor& base) {
    at::Tensor weight = base.to(at::kFloat);
    if (is_projection_weight(key) && adapter.projection_weight.defined()) {
        weight = adapter.projection_weight;
    } else if (is_projection_bias(key) && adapter.projection_bias.defined()) {
        weight = adapter.projection_bias;
    }
    const nn::LowRankDelta* delta = delta_of(adapter, key);
    if (delta == nullptr) {
        return weight;
    }
    if (is_projection_weight(key)) {
        weight = zero_padded(weight, 1, std::max(weight.size(1), delta->a.size(1)));
    }
    const at::Tensor product = at::mm(delta->b.flatten(1), delta->a.flatten(1));  // [out, in]
    std::vector<std::int64_t> shape = delta->a.sizes().vec();
    shape[0] = weight.size(0);
    at::Tensor change = product.reshape(shape);
    if (is_projection_weight(key)) {
        change = zero_padded(change, 1, weight.size(1));
    }
    TORCH_CHECK(change.sizes() == weight.sizes(), "merged: the delta of ", key,
                " does not have the weight's shape");
    return at::add(weight, change, delta->scale);
}

}  // namespace matrix::lora
