#include "matrix/lora/start.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "lora/dialect.h"
#include "lora/names.h"
#include "lora/targets.h"
#include "lora/zero_padded.h"
#include "matrix/core/error.h"
#include "matrix/core/shape.h"
#include "matrix/lora/merge.h"

namespace matrix::lora {
namespace {

/// "transformer_blocks.9.attn1.to_q" is outside of lora.blocks or of lora.targets, or of both.
std::string field_against(const std::string& linear, const LoraConfig& config) {
    LoraConfig all_targets = config;
    all_targets.targets = {"to_q", "to_k", "to_v", "to_out.0"};
    return is_target(linear, all_targets) ? "lora.targets" : "lora.blocks";
}

bool has_projection_lora(const Adapter& adapter) {
    return adapter.deltas.count(kProjection) != 0;
}

void check_projection(const LoraConfig& config, std::int64_t in_channels, const Adapter& adapter,
                      const std::string& path, std::vector<std::string>& faults) {
    const bool whole = adapter.projection_weight.defined();
    if (!whole && !has_projection_lora(adapter)) {
        return;
    }
    const std::string field =
        "lora.input_projection: \"" + config.input_projection + "\" cannot start from " + path;
    if (whole && config.input_projection != "full") {
        faults.push_back(field + ", which holds the whole projection; use \"full\"");
    } else if (!whole && config.input_projection == "frozen") {
        faults.push_back(field +
                         ", which holds a LoRA of the projection; use \"lora\" or \"full\"");
    }
    if (adapter.info.in_channels > in_channels) {
        faults.push_back("data.id_map: the run's model has " + std::to_string(in_channels) +
                         " input channels, and " + path + " was trained with " +
                         std::to_string(adapter.info.in_channels) + "; set it to true");
    }
}

/// Numbers of the directions that do something; an export fills smaller ranks up with zeros.
at::Tensor live_directions(const nn::LowRankDelta& delta) {
    const at::Tensor rows = delta.a.flatten(1).ne(0).any(1);
    const at::Tensor columns = delta.b.flatten(1).ne(0).any(0);
    return at::logical_and(rows, columns).nonzero().flatten();
}

/// Copies the adapter's live directions over the rows and columns that are there.
void start_delta(const std::string& linear, const nn::LowRankDelta& from, nn::LowRankDelta& to) {
    const std::int64_t rank = from.a.size(0);
    at::Tensor a = from.a;
    if (linear == kProjection && a.dim() == to.a.dim() && a.size(1) < to.a.size(1)) {
        a = zero_padded(a, 1, to.a.size(1));
    }
    std::vector<std::int64_t> a_shape = to.a.sizes().vec(), b_shape = to.b.sizes().vec();
    a_shape[0] = b_shape[1] = rank;
    expect_shape(a, a_shape, "lora.init_from: " + a_key(linear));
    expect_shape(from.b, b_shape, "lora.init_from: " + b_key(linear));
    const at::Tensor live = live_directions(from);
    const at::Tensor b = from.b.to(at::kDouble) * (from.scale / to.scale);
    const at::Tensor index = live.to(to.a.device());
    to.a.index_copy_(0, index, a.index_select(0, live).to(to.a.options()));
    to.b.zero_();
    to.b.index_copy_(1, index, b.index_select(1, live).to(to.b.options()));
}

void start_projection(nn::Linear& projection, const Adapter& adapter) {
    const auto value = [](const at::Tensor& tensor) {
        return tensor.detach().to(at::kCPU, at::kFloat);
    };
    const auto start = [&](const char* name, at::Tensor& tensor) {
        const std::string key = std::string(kProjection) + name;
        if (!tensor.defined() || !changes(adapter, key)) {
            return;
        }
        at::Tensor values = merged(adapter, key, value(tensor));
        if (values.dim() > 1 && values.dim() == tensor.dim() && values.size(1) < tensor.size(1)) {
            values = zero_padded(values, 1, tensor.size(1));
        }
        expect_shape(values, tensor.sizes(), "lora.init_from: " + key);
        tensor.copy_(values);
    };
    start(".weight", projection.weight);
    start(".bias", projection.bias);
}

}  // namespace

std::vector<std::string> check_start(const LoraConfig& config, std::int64_t in_channels,
                                     const Adapter& adapter, const std::string& path) {
    std::vector<std::string> faults;
    std::int64_t rank = 0;
    for (const auto& [linear, delta] : adapter.deltas) {
        const bool projection = linear == kProjection;
        if (of_other_programs(linear)) {
            faults.push_back("lora.init_from: " + path + ": " + not_applied_text(linear));
            continue;
        }
        if (!projection && !is_target(linear, config)) {
            faults.push_back(field_against(linear, config) + ": does not name " + linear +
                             ", which " + path + " of lora.init_from trains; add it");
        }
        // A LoRA that goes into a whole projection may have any rank.
        if (!projection || config.input_projection == "lora") {
            rank = std::max(rank, delta.a.size(0));
        }
    }
    if (rank > config.rank) {
        faults.push_back("lora.rank: " + std::to_string(config.rank) + " is less than the rank " +
                         std::to_string(rank) + " of " + path +
                         " in lora.init_from; use at least that");
    }
    check_projection(config, in_channels, adapter, path, faults);
    return faults;
}

void start_from(nn::Adaptable& model, const LoraConfig& config, const Adapter& adapter) {
    const at::NoGradGuard no_grad;
    const std::map<std::string, nn::Linear*> linears = model.adaptable_linears();
    for (const auto& [linear, delta] : adapter.deltas) {
        const auto found = linears.find(linear);
        if (found != linears.end() && found->second->delta) {
            start_delta(linear, delta, *found->second->delta);
        } else if (linear != kProjection) {
            throw RunError("lora.init_from: " +
                           (of_other_programs(linear)
                                ? not_applied_text(linear)
                                : a_key(linear) + ": the model has no such linear"));
        }
    }
    if (config.input_projection == "full") {
        start_projection(model.input_projection(), adapter);
    }
}

}  // namespace matrix::lora
