#include "probability_readout.h"

#include "matrix/kernels/attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

// B batch, H heads, c heads of a chunk, n chosen positions, m of them in a chunk, R cells read, S
// keys, d head width. X = q k^T scale, P = softmax(X), Z = the gradient arriving at an entity's
// map.

namespace matrix::alignment {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Elements of one attention chunk: 64 MiB in float32; a handful of temporaries of that size live at
// a time.
constexpr std::int64_t kChunkElements = 16 << 20;

struct Problem {
    std::vector<at::Tensor> chosen;
    std::int64_t begin;  // first row of the range the chosen positions count in
    RowRange cells;      // rows of the other side that the map's cells are
    double scale;
};

at::ScalarType compute_dtype(const at::Tensor& t) {
    return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

/// Calls body(head, heads, position, positions) so that heads x positions x width stays within the
/// bound.
template <typename Body>
void for_each_chunk(std::int64_t heads, std::int64_t positions, std::int64_t width,
                    const Body& body) {
    const std::int64_t rows = std::max<std::int64_t>(1, kChunkElements / width);
    const std::int64_t m = std::min(positions, rows), c = std::max<std::int64_t>(1, rows / m);
    for (std::int64_t head = 0; head < heads; head += c) {
        for (std::int64_t p = 0; p < positions; p += m) {
            body(head, std::min(c, heads - head), p, std::min(m, positions - p));
        }
    }
}

/// One (sample, entity) with its operands in the compute dtype.
struct Entity {
    const Problem& problem;
    std::int64_t b, slot;  // slot = b * E + e

    [[nodiscard]] const at::Tensor& chosen() const { return problem.chosen[slot]; }
    [[nodiscard]] at::Tensor rows(std::int64_t p, std::int64_t m) const {
        return chosen().narrow(0, p, m) + problem.begin;  // [m]
    }
    /// The chosen rows of q or k: [c, m, d]
    [[nodiscard]] at::Tensor picked(const at::Tensor& t, std::int64_t head, std::int64_t c,
                                    std::int64_t p, std::int64_t m) const {
        return t[b].narrow(0, head, c).index_select(1, rows(p, m)).to(compute_dtype(t));
    }
    [[nodiscard]] at::Tensor range(const at::Tensor& t, std::int64_t head, std::int64_t c,
                                   RowRange r) const {
        return t[b].narrow(0, head, c).narrow(1, r.begin, r.count).to(compute_dtype(t));
    }
};

template <typename Body>
void for_each_entity(const Problem& problem, std::int64_t batch, const Body& body) {
    const auto entities = static_cast<std::int64_t>(problem.chosen.size()) / batch;
    for (std::int64_t b = 0; b < batch; ++b) {
        for (std::int64_t e = 0; e < entities; ++e) {
            const Entity entity{problem, b, b * entities + e};
            if (entity.chosen().numel() > 0) {
                body(entity);
            }
        }
    }
}

at::Tensor empty_map(const Problem& problem, const at::Tensor& query) {
    return at::full({static_cast<std::int64_t>(problem.chosen.size()), problem.cells.count},
                    -std::numeric_limits<double>::infinity(),
                    query.options().dtype(compute_dtype(query)));
}

double log_count(const Entity& entity, const at::Tensor& query) {
    return std::log(static_cast<double>(query.size(1) * entity.chosen().numel()));
}

/// Where `slot`'s map gets Z and the log of the sum: both [R].
struct Arriving {
    at::Tensor gradient, log_sum;

    Arriving(const at::Tensor& grads, const at::Tensor& map, const Entity& e,
             const at::Tensor& query)
        : gradient(grads[e.slot]), log_sum(map[e.slot] + log_count(e, query)) {}
};

struct Saved {
    at::Tensor query, key, map, log_sum_exp;
    Problem problem;
};

void save(AutogradContext* ctx, const Problem& problem, const at::Tensor& query,
          const at::Tensor& key, const at::Tensor& map, const at::Tensor& log_sum_exp) {
    variable_list saved = {query, key, map, log_sum_exp};
    saved.insert(saved.end(), problem.chosen.begin(), problem.chosen.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["begin"] = problem.begin;
    ctx->saved_data["cells_begin"] = problem.cells.begin;
    ctx->saved_data["cells_count"] = problem.cells.count;
    ctx->saved_data["scale"] = problem.scale;
}

Saved load(AutogradContext* ctx) {
    const variable_list saved = ctx->get_saved_variables();
    return {saved[0],
            saved[1],
            saved[2],
            saved[3],
            {{saved.begin() + 4, saved.end()},
             ctx->saved_data["begin"].toInt(),
             {ctx->saved_data["cells_begin"].toInt(), ctx->saved_data["cells_count"].toInt()},
             ctx->saved_data["scale"].toDouble()}};
}

/// Gradients of query and key in the compute dtype while they are summed up.
struct Sums {
    at::Tensor query, key;
    explicit Sums(const Saved& s)
        : query(at::zeros(s.query.sizes(), s.query.options().dtype(compute_dtype(s.query)))),
          key(at::zeros(s.key.sizes(), query.options())) {}
};

// [c, R, m]: log P of a chunk of columns.
at::Tensor log_columns(const Entity& e, const at::Tensor& queries, const at::Tensor& keys,
                       const at::Tensor& log_sum_exp, std::int64_t head, std::int64_t c) {
    return at::matmul(queries * e.problem.scale, keys.mT())
        .sub_(e.range(log_sum_exp.unsqueeze(-1), head, c, e.problem.cells));
}

// The denominators' share: L_i = log sum_j exp(X_ij) has dL_i = sum_j P_ij dX_ij, so with
// `arriving` [B, H, S] at L, dq_i = scale arriving_i (P K)_i and dk_j = scale sum_i P_ij arriving_i
// q_i: fused attention with V := K, and the dV of its backward with dO := arriving q.
void add_denominators(const Saved& s, const at::Tensor& arriving, Sums& sums) {
    const at::AutoGradMode grad_mode(true);
    const at::Tensor value = s.key.detach().requires_grad_(true);
    const at::Tensor mixed =
        kernels::attention(s.query.detach(), s.key.detach(), value, s.problem.scale).output;
    const at::Tensor weight = arriving.unsqueeze(-1);  // [B, H, S, 1]
    const at::Tensor seed = (weight * s.query.detach()).to(mixed.scalar_type());
    const at::Tensor grad_value = torch::autograd::grad({mixed}, {value}, {seed})[0];
    sums.query.add_(weight * mixed.detach(), s.problem.scale);
    sums.key.add_(grad_value, s.problem.scale);
}

struct LogMeanColumns : torch::autograd::Function<LogMeanColumns> {
    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query, const at::Tensor& key,
                              const at::Tensor& log_sum_exp, const Problem& problem) {
        at::Tensor map = empty_map(problem, query);  // [B * E, R]
        for_each_entity(problem, query.size(0), [&](const Entity& e) {
            at::Tensor total = map[e.slot];  // [R], a view
            for_each_chunk(
                query.size(1), e.chosen().numel(), problem.cells.count,
                [&](auto head, auto c, auto p, auto m) {
                    const at::Tensor log_p =
                        log_columns(e, e.range(query, head, c, problem.cells),
                                    e.picked(key, head, c, p, m), log_sum_exp, head, c);
                    total.copy_(at::logaddexp(total, log_p.logsumexp(at::IntArrayRef{0, 2})));
                });
            total.sub_(log_count(e, query));
        });
        save(ctx, problem, query, key, map, log_sum_exp);
        return map;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const Saved s = load(ctx);
        Sums sums(s);
        at::Tensor arriving = at::zeros(s.query.sizes().slice(0, 3), sums.query.options());
        for_each_entity(s.problem, s.query.size(0), [&](const Entity& e) {
            const Arriving z(grads[0], s.map, e, s.query);
            for_each_chunk(
                s.query.size(1), e.chosen().numel(), s.problem.cells.count,
                [&](auto head, auto c, auto p, auto m) {
                    const RowRange& cells = s.problem.cells;
                    const at::Tensor q = e.range(s.query, head, c, cells);  // [c, R, d]
                    const at::Tensor k = e.picked(s.key, head, c, p, m);    // [c, m, d]
                    at::Tensor dx = log_columns(e, q, k, s.log_sum_exp, head, c)
                                        .sub_(z.log_sum.unsqueeze(-1))
                                        .exp_()
                                        .mul_(z.gradient.unsqueeze(-1));  // [c, R, m]
                    const auto part = [&](at::Tensor& t) { return t[e.b].narrow(0, head, c); };
                    part(arriving).narrow(1, cells.begin, cells.count).sub_(dx.sum(-1));
                    dx.mul_(s.problem.scale);
                    part(sums.query).narrow(1, cells.begin, cells.count).add_(at::matmul(dx, k));
                    part(sums.key).index_add_(1, e.rows(p, m), at::matmul(dx.mT(), q));
                });
        });
        add_denominators(s, arriving, sums);
        return {sums.query.to(s.query.scalar_type()), sums.key.to(s.key.scalar_type()), {}, {}};
    }
};

struct LogMeanRows : torch::autograd::Function<LogMeanRows> {
    // [c, m, S]: log P of a chunk of rows.
    static at::Tensor log_rows(const Problem& problem, const at::Tensor& queries,
                               const at::Tensor& keys) {
        return at::matmul(queries * problem.scale, keys.mT()).log_softmax(-1);
    }

    static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query, const at::Tensor& key,
                              const Problem& problem) {
        at::Tensor map = empty_map(problem, query);  // [B * E, R]
        const RowRange all{0, key.size(2)};
        for_each_entity(problem, query.size(0), [&](const Entity& e) {
            at::Tensor total = map[e.slot];  // [R], a view
            for_each_chunk(query.size(1), e.chosen().numel(), all.count,
                           [&](auto head, auto c, auto p, auto m) {
                               const at::Tensor log_p =
                                   log_rows(problem, e.picked(query, head, c, p, m),
                                            e.range(key, head, c, all));
                               total.copy_(at::logaddexp(
                                   total, log_p.narrow(2, problem.cells.begin, problem.cells.count)
                                              .logsumexp(at::IntArrayRef{0, 1})));
                           });
            total.sub_(log_count(e, query));
        });
        save(ctx, problem, query, key, map, {});
        return map;
    }

    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        const Saved s = load(ctx);
        Sums sums(s);
        const RowRange all{0, s.key.size(2)};
        const RowRange& cells = s.problem.cells;
        for_each_entity(s.problem, s.query.size(0), [&](const Entity& e) {
            const Arriving z(grads[0], s.map, e, s.query);
            for_each_chunk(
                s.query.size(1), e.chosen().numel(), all.count,
                [&](auto head, auto c, auto p, auto m) {
                    const at::Tensor q = e.picked(s.query, head, c, p, m);  // [c, m, d]
                    const at::Tensor k = e.range(s.key, head, c, all);      // [c, S, d]
                    const at::Tensor log_p = log_rows(s.problem, q, k);     // [c, m, S]
                    const at::Tensor direct =
                        (log_p.narrow(2, cells.begin, cells.count) - z.log_sum)
                            .exp_()
                            .mul_(z.gradient);  // [c, m, R]
                    at::Tensor dx = log_p.exp().mul_(direct.sum(-1, /*keepdim=*/true)).neg_();
                    dx.narrow(2, cells.begin, cells.count).add_(direct);
                    dx.mul_(s.problem.scale);
                    const auto part = [&](at::Tensor& t) { return t[e.b].narrow(0, head, c); };
                    part(sums.query).index_add_(1, e.rows(p, m), at::matmul(dx, k));
                    part(sums.key).add_(at::matmul(dx.mT(), q));
                });
        });
        return {sums.query.to(s.query.scalar_type()), sums.key.to(s.key.scalar_type()), {}};
    }
};

at::Tensor by_sample(const at::Tensor& map, std::int64_t batch) {
    return map.view({batch, map.size(0) / batch, map.size(1)});  // [B, E, R]
}

}  // namespace

at::Tensor log_mean_columns(const at::Tensor& query, const at::Tensor& key,
                            const at::Tensor& log_sum_exp, const std::vector<at::Tensor>& chosen,
                            std::int64_t keys_begin, RowRange queries, double scale) {
    at::Tensor lse = log_sum_exp;
    if (!lse.defined()) {
        const at::NoGradGuard no_grad;
        lse = kernels::attention(query, key, key, scale).log_sum_exp;
    }
    return by_sample(LogMeanColumns::apply(query, key, lse.to(compute_dtype(query)),
                                           Problem{chosen, keys_begin, queries, scale}),
                     query.size(0));
}

at::Tensor log_mean_rows(const at::Tensor& query, const at::Tensor& key,
                         const std::vector<at::Tensor>& chosen, std::int64_t queries_begin,
                         RowRange keys, double scale) {
    return by_sample(LogMeanRows::apply(query, key, Problem{chosen, queries_begin, keys, scale}),
                     query.size(0));
}

}  // namespace matrix::alignment
