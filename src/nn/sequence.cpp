#include "matrix/nn/sequence.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace matrix::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The group outlives every graph that an exchange is part of.
struct GroupPointer final : torch::CustomClassHolder {
    explicit GroupPointer(const SequenceGroup& members) : group(members) {}
    const SequenceGroup& group;
};

void keep(AutogradContext* ctx, const c10::intrusive_ptr<GroupPointer>& pointer) {
    ctx->saved_data["group"] = c10::IValue::make_capsule(pointer);
}

const SequenceGroup& kept(AutogradContext* ctx) {
    return c10::static_intrusive_pointer_cast<GroupPointer>(ctx->saved_data["group"].toCapsule())
        ->group;
}

/// Its own adjoint: entry [i] of rank r and entry [r] of rank i change places.
struct Exchange : torch::autograd::Function<Exchange> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                              c10::intrusive_ptr<GroupPointer> group) {
        keep(ctx, group);
        return group->group.all_to_all(x);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        return {kept(ctx).all_to_all(grads[0].contiguous()), {}};
    }
};

/// The ranks' gradients of the result are equal, so their sum needs no exchange.
struct Gather : torch::autograd::Function<Gather> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                              c10::intrusive_ptr<GroupPointer> group) {
        keep(ctx, group);
        return group->group.all_gather(x);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const SequenceGroup& group = kept(ctx);
        return {grads[0][group.rank()] * group.size(), {}};
    }
};

at::Tensor exchange(const at::Tensor& x, const SequenceGroup& group) {
    return Exchange::apply(x.contiguous(), c10::make_intrusive<GroupPointer>(group));
}

/// Zeros behind dimension `dim` up to `size`.
at::Tensor fill_up(const at::Tensor& x, std::int64_t dim, std::int64_t size) {
    std::vector<std::int64_t> missing = x.sizes().vec();
    missing[static_cast<std::size_t>(dim)] = size - x.size(dim);
    return missing[static_cast<std::size_t>(dim)] == 0
               ? x
               : at::cat({x, at::zeros(missing, x.options())}, dim);
}

}  // namespace

JointRows JointRows::of(const TokenLayout& layout, const SequenceGroup* group) {
    JointRows rows{layout, layout.num_queries(), layout.text_tokens, group};
    if (group != nullptr) {
        rows.rows = (layout.num_queries() + group->size() - 1) / group->size();
        rows.text_rows = std::clamp<std::int64_t>(layout.text_tokens - rows.begin(), 0, rows.rows);
    }
    return rows;
}

at::Tensor own_rows(const at::Tensor& x, std::int64_t dim, const JointRows& rows) {
    const std::int64_t begin = std::min(rows.begin(), x.size(dim));
    const std::int64_t count = std::min(rows.rows, x.size(dim) - begin);
    return fill_up(x.narrow(dim, begin, count), dim, rows.rows);
}

at::Tensor of_all_ranks(const at::Tensor& x, const SequenceGroup& group) {
    return Gather::apply(x.contiguous(), c10::make_intrusive<GroupPointer>(group));
}

at::Tensor all_rows(const at::Tensor& x, const JointRows& rows) {
    return of_all_ranks(x, *rows.group)  // [n, B, R, ...]
        .transpose(0, 1)
        .flatten(1, 2)
        .narrow(1, 0, rows.layout.num_queries());
}

at::Tensor rows_to_heads(const at::Tensor& x, const JointRows& rows) {
    TORCH_CHECK(x.size(2) % rows.group->size() == 0, x.size(2), " heads do not divide among ",
                rows.group->size(), " ranks");
    const at::Tensor parts = x.unflatten(2, {rows.group->size(), -1}).movedim(2, 0);
    return exchange(parts, *rows.group)  // [n, B, R, H / n, d], by row range
        .transpose(0, 1)
        .flatten(1, 2)
        .narrow(1, 0, rows.layout.num_queries());
}

at::Tensor heads_to_rows(const at::Tensor& x, const JointRows& rows) {
    const at::Tensor ranges = fill_up(x, 1, rows.group->size() * rows.rows)
                                  .unflatten(1, {rows.group->size(), rows.rows})
                                  .transpose(0, 1);
    return exchange(ranges, *rows.group)  // [n, B, R, H / n, d], by heads
        .movedim(0, 2)
        .flatten(2, 3);
}

}  // namespace matrix::nn
