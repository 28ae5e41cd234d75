#include "cli/bench/flop_counter.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace matrix::cli::bench {
namespace {

std::mutex counting_mutex;
std::atomic<double> total;

double elements(const c10::IValue& value) {
    return value.isTensor() && value.toTensor().defined()
               ? static_cast<double>(value.toTensor().numel())
               : 0.0;
}

double size(const c10::IValue& value, std::int64_t dim) {
    return static_cast<double>(value.toTensor().size(dim));
}

/// q, k, v [B, H, S, d] stand first among the inputs, or behind the output's gradient.
double attention(c10::ArrayRef<const c10::IValue> inputs, std::size_t query, double products) {
    const c10::IValue &q = inputs[query], &k = inputs[query + 1];
    return 2 * products * elements(q) * size(k, 2);
}

/// input and weight stand first; `lists` are the places of stride, padding and dilation, each of
/// one value or one for every dimension. Not transposed.
double convolution(c10::ArrayRef<const c10::IValue> inputs, std::array<std::size_t, 3> lists) {
    const at::Tensor &x = inputs[0].toTensor(), &weight = inputs[1].toTensor();
    auto positions = static_cast<double>(x.size(0));
    for (std::int64_t dim = 2; dim < weight.dim(); ++dim) {
        const auto value = [&](std::size_t list) {
            const std::vector<std::int64_t> values = inputs[lists[list]].toIntVector();
            return values[std::min(values.size() - 1, static_cast<std::size_t>(dim - 2))];
        };
        const std::int64_t reach = value(2) * (weight.size(dim) - 1) + 1;
        positions *= static_cast<double>((x.size(dim) + 2 * value(1) - reach) / value(0) + 1);
    }
    return 2 * positions * static_cast<double>(weight.numel());
}

struct Counted : at::ObserverContext {
    double flop = 0.0;
    bool is_whole = false;  ///< what runs inside is a part of it
};

void count_inputs(const at::RecordFunction& call, Counted& counted) {
    const std::string_view name = call.name();
    const auto in = call.inputs();
    if (name == "aten::mm" || name == "aten::bmm") {
        counted.flop = 2 * elements(in[0]) * size(in[1], -1);
    } else if (name == "aten::addmm" || name == "aten::baddbmm") {
        counted.flop = 2 * elements(in[1]) * size(in[2], -1);
    } else if (name == "aten::convolution") {
        counted.is_whole = true;
        counted.flop = convolution(in, {3, 4, 5});
    } else if (name == "aten::mkldnn_convolution") {
        counted.is_whole = true;
        counted.flop = convolution(in, {4, 3, 5});
    } else if (name == "aten::convolution_backward") {
        constexpr std::size_t kOutputMask = 10;
        const auto wanted = in[kOutputMask].toBoolList();
        const int products = (wanted[0] ? 1 : 0) + (wanted[1] ? 1 : 0);  // for input and weight
        counted.is_whole = true;
        counted.flop = products * 2 * elements(in[0]) * elements(in[2]) / size(in[2], 0);
    } else if (name.find("_scaled_dot_product_") != std::string_view::npos) {
        const bool backward = name.find("_backward") != std::string_view::npos;
        counted.is_whole = true;
        counted.flop = backward ? attention(in, 1, 5) : attention(in, 0, 2);
    }
}

/// How many operators that are counted whole this thread is inside of.
thread_local int counted_depth = 0;

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& call) {
    auto counted = std::make_unique<Counted>();
    if (counted_depth == 0) {
        count_inputs(call, *counted);
    }
    counted_depth += counted->is_whole ? 1 : 0;
    return counted;
}

void end(const at::RecordFunction&, at::ObserverContext* context) {
    const auto& counted = static_cast<const Counted&>(*context);
    counted_depth -= counted.is_whole ? 1 : 0;
    for (double seen = total;
         counted.flop > 0 && !total.compare_exchange_weak(seen, seen + counted.flop);) {
    }
}

}  // namespace

double counted_flop(const std::function<void()>& work) {
    const std::lock_guard lock(counting_mutex);
    total = 0.0;
    const at::CallbackHandle handle =
        at::addGlobalCallback(at::RecordFunctionCallback(begin, end)
                                  .needsInputs(true)
                                  .scopes({at::RecordScope::FUNCTION}));
    work();
    at::removeCallback(handle);
    return total;
}

}  // namespace matrix::cli::bench
