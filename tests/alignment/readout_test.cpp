#include "matrix/alignment/readout.h"

#include "alignment/reference.h"
#include "matrix/core/error.h"
#include "matrix/core/random.h"
#include "matrix/kernels/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace matrix::alignment {
namespace {

using Options = ReadoutOptions;
using Direction = Options::Direction;
using Value = Options::Value;
using Center = Options::Center;
using reference::relative_error;

// Odd sizes throughout: 2 samples, 3 heads of width 5, 7 text rows, 3 x 3 x 5 cells.
const nn::TokenLayout kLayout{nn::TokenLayout::Attention::kJoint, 7, 3, 3, 5};

struct Sample {
    at::Tensor q, k, token_mask, query_mask;

    explicit Sample(double spread = 1.0)
        : q(keyed_normal({2, 3, kLayout.num_keys(), 5}, 1, Purpose::kSynth, 1) * spread),
          k(keyed_normal({2, 3, kLayout.num_keys(), 5}, 1, Purpose::kSynth, 2) * spread),
          token_mask(at::zeros({2, 4, 7}, at::kByte)),
          query_mask(at::zeros({2, 4, 3, 5}, at::kByte)) {
        // Entity 2 of each sample stays empty; entities overlap; one has everything.
        for (const at::Tensor& mask : {token_mask.flatten(2), query_mask.flatten(2)}) {
            mask[0][0].narrow(0, 1, 2).fill_(1);
            mask[0][1][6] = 255;
            mask[0][3].narrow(0, 0, 3).fill_(1);
            mask[1][0][0] = 1;
            mask[1][1].fill_(1);
            mask[1][3].narrow(0, 4, 2).fill_(1);
        }
    }
    [[nodiscard]] const at::Tensor& mask(Direction direction) const {
        return direction == Direction::kV2v ? query_mask : token_mask;
    }
};

struct Result {
    at::Tensor map, grad_q, grad_k;
};

template <typename Read>
Result differentiate(const at::Tensor& q, const at::Tensor& k, const Read& read) {
    const at::Tensor lq = q.detach().clone().requires_grad_(true);
    const at::Tensor lk = k.detach().clone().requires_grad_(true);
    const at::Tensor map = read(lq, lk);
    const at::Tensor cotangent = keyed_normal(map.sizes(), 2, Purpose::kSynth, 3).to(map.dtype());
    // Empty sets are -inf in log space; they must not enter the sum.
    const at::Tensor finite = map.isfinite();
    const at::Tensor sum = (at::where(finite, map, at::zeros_like(map)) * cotangent).sum();
    const auto grads = torch::autograd::grad({sum}, {lq, lk});
    return {map.detach(), grads[0], grads[1]};
}

void expect_equal(const Result& value, const Result& wanted, double tolerance,
                  const std::string& what) {
    EXPECT_LE(relative_error(value.map, wanted.map), tolerance) << what;
    EXPECT_LE(relative_error(value.grad_q, wanted.grad_q), tolerance) << what;
    EXPECT_LE(relative_error(value.grad_k, wanted.grad_k), tolerance) << what;
}

std::vector<Options> all_options() {
    std::vector<Options> all;
    for (const Direction d : {Direction::kV2t, Direction::kT2v, Direction::kV2v}) {
        all.push_back({d, Value::kLogits, Center::kNone});
        all.push_back({d, Value::kProbabilities, Center::kNone});
    }
    all.push_back({Direction::kV2t, Value::kLogits, Center::kText});
    all.push_back({Direction::kV2t, Value::kLogits, Center::kAll});
    return all;
}

std::string name_of(const Options& o) {
    return "direction " + std::to_string(static_cast<int>(o.direction)) + " value " +
           std::to_string(static_cast<int>(o.value)) + " center " +
           std::to_string(static_cast<int>(o.center));
}

TEST(Readout, EqualsMaterialisedAttentionWithGradients) {
    const Sample s;
    for (const Options& options : all_options()) {
        const at::Tensor& mask = s.mask(options.direction);
        const AttentionReadout readout(options, mask, at::kCPU);
        const auto fast = [&](const at::Tensor& q, const at::Tensor& k) {
            return readout.read(q, k, {}, kLayout);
        };
        const auto slow = [&](const at::Tensor& q, const at::Tensor& k) {
            return reference::materialised(options, q, k, mask, kLayout);
        };
        const at::Tensor q = s.q.to(at::kDouble), k = s.k.to(at::kDouble);
        const Result wanted = differentiate(q, k, slow);
        expect_equal(differentiate(q, k, fast), wanted, 1e-12, name_of(options) + " float64");
        expect_equal(differentiate(s.q, s.k, fast), wanted, 1e-5, name_of(options) + " float32");
    }
}

TEST(Readout, TakesTheLogSumExpOfFusedAttention) {
    const Sample s;
    const Options options{Direction::kV2t, Value::kProbabilities, Center::kNone};
    const AttentionReadout readout(options, s.token_mask, at::kCPU);
    const at::Tensor lse =
        kernels::attention(s.q, s.k, s.k, 1 / std::sqrt(5.0)).log_sum_exp.detach();
    const at::Tensor wanted = reference::materialised(options, s.q.to(at::kDouble),
                                                      s.k.to(at::kDouble), s.token_mask, kLayout);
    EXPECT_LE(relative_error(readout.read(s.q, s.k, lse, kLayout), wanted), 1e-5);
    // It is used, not formed again: a shift of it scales the map.
    EXPECT_LE(relative_error(readout.read(s.q, s.k, lse + std::log(2.0), kLayout), wanted / 2),
              1e-5);
}

TEST(Readout, LogProbabilitiesSurviveUnderflow) {
    // Products of several hundred: most probabilities are zero in float32, their logarithms are
    // not.
    const Sample s(12.0);
    for (const Direction d : {Direction::kV2t, Direction::kT2v, Direction::kV2v}) {
        const Options options{d, Value::kLogProbabilities, Center::kNone};
        const AttentionReadout readout(options, s.mask(d), at::kCPU);
        const at::Tensor map = readout.read(s.q, s.k, {}, kLayout);
        const at::Tensor wanted = reference::materialised(options, s.q.to(at::kDouble),
                                                          s.k.to(at::kDouble), s.mask(d), kLayout);
        EXPECT_TRUE(map.select(1, 2).eq(-INFINITY).all().item<bool>());
        std::vector<std::int64_t> full = {0, 1, 3};
        const at::Tensor rows = at::tensor(full);
        EXPECT_LT(wanted.index_select(1, rows).min().item<double>(), -110);
        EXPECT_LE(relative_error(map.index_select(1, rows), wanted.index_select(1, rows)), 1e-6);
    }
}

TEST(Readout, LogProbabilitiesHaveTheGradientOfTheDefinition) {
    const Sample s;
    for (const Direction d : {Direction::kV2t, Direction::kT2v, Direction::kV2v}) {
        const Options options{d, Value::kLogProbabilities, Center::kNone};
        const at::Tensor rows = at::tensor(std::vector<std::int64_t>{0, 1, 3});
        const at::Tensor mask = s.mask(d).index_select(1, rows);
        const AttentionReadout readout(options, mask, at::kCPU);
        const Result wanted =
            differentiate(s.q.to(at::kDouble), s.k.to(at::kDouble),
                          [&](const at::Tensor& q, const at::Tensor& k) {
                              return reference::materialised(options, q, k, mask, kLayout);
                          });
        expect_equal(differentiate(s.q, s.k,
                                   [&](const at::Tensor& q, const at::Tensor& k) {
                                       return readout.read(q, k, {}, kLayout);
                                   }),
                     wanted, 1e-5, name_of(options));
    }
}

TEST(Readout, EmptySetsGiveZerosAndNoGradient) {
    const Sample s;
    for (const Options& options : all_options()) {
        const at::Tensor mask = at::zeros_like(s.mask(options.direction));
        const AttentionReadout readout(options, mask, at::kCPU);
        const Result r = differentiate(s.q, s.k, [&](const at::Tensor& q, const at::Tensor& k) {
            return readout.read(q, k, {}, kLayout);
        });
        for (const at::Tensor& t : {r.map, r.grad_q, r.grad_k}) {
            EXPECT_TRUE(t.eq(0).all().item<bool>()) << name_of(options);
        }
    }
}

TEST(Readout, NoEntitiesGiveAnEmptyMap) {
    const Sample s;
    for (const Options& options : all_options()) {
        const AttentionReadout readout(options, s.mask(options.direction).narrow(1, 0, 0),
                                       at::kCPU);
        const at::Tensor map = readout.read(s.q, s.k, {}, kLayout);
        EXPECT_EQ(map.sizes(), at::IntArrayRef({2, 0, 3, 3, 5})) << name_of(options);
    }
}

TEST(Readout, BfloatInputsAccumulateInFloat32) {
    const Sample s;
    const at::Tensor q = s.q.to(at::kBFloat16), k = s.k.to(at::kBFloat16);
    for (const Options& options : all_options()) {
        const at::Tensor& mask = s.mask(options.direction);
        const AttentionReadout readout(options, mask, at::kCPU);
        const Result wanted = differentiate(
            q.to(at::kDouble), k.to(at::kDouble), [&](const at::Tensor& a, const at::Tensor& b) {
                return reference::materialised(options, a, b, mask, kLayout);
            });
        const Result got = differentiate(q, k, [&](const at::Tensor& a, const at::Tensor& b) {
            return readout.read(a, b, {}, kLayout);
        });
        EXPECT_EQ(got.map.scalar_type(), at::kFloat);
        EXPECT_EQ(got.grad_q.scalar_type(), at::kBFloat16);
        // Fused attention in bfloat16 rounds the log-sum-exp's inputs; logits are exact to float32.
        EXPECT_LE(relative_error(got.map, wanted.map),
                  options.value == Value::kLogits ? 1e-6 : 1e-3)
            << name_of(options);
        // Gradients are rounded to bfloat16 (2^-9); the v2t denominator runs in it.
        EXPECT_LE(relative_error(got.grad_q, wanted.grad_q), 1e-2) << name_of(options);
        EXPECT_LE(relative_error(got.grad_k, wanted.grad_k), 1e-2) << name_of(options);
    }
}

TEST(Readout, StridedQueriesAndKeysRead) {
    const Sample s;
    const auto strided = [](const at::Tensor& t) {
        return t.transpose(1, 2).contiguous().transpose(1, 2);
    };
    for (const Options& options : all_options()) {
        const AttentionReadout readout(options, s.mask(options.direction), at::kCPU);
        const auto read = [&](const at::Tensor& q, const at::Tensor& k) {
            return readout.read(q, k, {}, kLayout);
        };
        expect_equal(differentiate(strided(s.q), strided(s.k), read), differentiate(s.q, s.k, read),
                     1e-6, name_of(options));
    }
}

TEST(Readout, CentringIgnoresAConstantAddedToEveryKey) {
    const Sample s;
    const at::Tensor shifted = s.k + keyed_normal({1, 3, 1, 5}, 1, Purpose::kSynth, 9) * 10;
    for (const Center center : {Center::kText, Center::kAll}) {
        const AttentionReadout readout({Direction::kV2t, Value::kLogits, center}, s.token_mask,
                                       at::kCPU);
        EXPECT_LE(relative_error(readout.read(s.q, shifted, {}, kLayout),
                                 readout.read(s.q, s.k, {}, kLayout)),
                  2e-5);
    }
}

// The bounds on a chunk's elements are reached below; results must not show where the chunks end.

TEST(ReadoutChunks, LogitsInChunksOfHeads) {
    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, 20, 2, 10, 10};
    const at::Tensor q = keyed_normal({1, 3, 220, 16384}, 1, Purpose::kSynth, 11);
    const at::Tensor k = keyed_normal({1, 3, 220, 16384}, 1, Purpose::kSynth, 12);
    const at::Tensor mask = at::ones({1, 1, 20}, at::kByte);
    const Options options{Direction::kV2t, Value::kLogits, Center::kNone};
    const AttentionReadout readout(options, mask, at::kCPU);
    expect_equal(differentiate(q, k,
                               [&](const at::Tensor& a, const at::Tensor& b) {
                                   return readout.read(a, b, {}, layout);
                               }),
                 differentiate(q, k,
                               [&](const at::Tensor& a, const at::Tensor& b) {
                                   return reference::materialised(options, a, b, mask, layout);
                               }),
                 1e-5, "three heads, two a chunk");
}

TEST(ReadoutChunks, ColumnsInChunksOfHeads) {
    // 18 million elements; nine heads at a time stay within one chunk.
    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, 1000, 10, 10, 10};
    const at::Tensor q = keyed_normal({1, 18, 2000, 8}, 1, Purpose::kSynth, 13);
    const at::Tensor k = keyed_normal({1, 18, 2000, 8}, 1, Purpose::kSynth, 14);
    const AttentionReadout readout({Direction::kV2t, Value::kProbabilities, Center::kNone},
                                   at::ones({1, 1, 1000}, at::kByte), at::kCPU);
    const auto heads = [&](const at::Tensor& a, const at::Tensor& b, std::int64_t begin) {
        return readout.read(a.narrow(1, begin, 9), b.narrow(1, begin, 9), {}, layout);
    };
    expect_equal(differentiate(q, k,
                               [&](const at::Tensor& a, const at::Tensor& b) {
                                   return readout.read(a, b, {}, layout);
                               }),
                 differentiate(q, k,
                               [&](const at::Tensor& a, const at::Tensor& b) {
                                   return (heads(a, b, 0) + heads(a, b, 9)) / 2;
                               }),
                 1e-5, "18 heads");
}

TEST(ReadoutChunks, RowsInChunksOfPositions) {
    // One head's 4200 x 4204 rows are more than a chunk; half of them are not.
    const nn::TokenLayout layout{nn::TokenLayout::Attention::kJoint, 4, 1, 60, 70};
    const at::Tensor q = keyed_normal({1, 1, 4204, 8}, 1, Purpose::kSynth, 15);
    const at::Tensor k = keyed_normal({1, 1, 4204, 8}, 1, Purpose::kSynth, 16);
    const Options options{Direction::kV2v, Value::kProbabilities, Center::kNone};
    const AttentionReadout whole(options, at::ones({1, 1, 60, 70}, at::kByte), at::kCPU);
    at::Tensor parts = at::zeros({1, 2, 60, 70}, at::kByte);
    parts[0][0].narrow(0, 0, 30).fill_(1);
    parts[0][1].narrow(0, 30, 30).fill_(1);
    const AttentionReadout halves(options, parts, at::kCPU);
    expect_equal(differentiate(q, k,
                               [&](const at::Tensor& a, const at::Tensor& b) {
                                   return whole.read(a, b, {}, layout);
                               }),
                 differentiate(q, k,
                               [&](const at::Tensor& a, const at::Tensor& b) {
                                   return halves.read(a, b, {}, layout).mean(1, true);
                               }),
                 1e-5, "4200 rows");
}

TEST(Readout, WordsOfTheConfig) {
    EXPECT_EQ(parse_direction("t2v"), Direction::kT2v);
    EXPECT_EQ(parse_center("all"), Center::kAll);
    EXPECT_THROW((void)parse_direction("v2v"), UsageError);
    EXPECT_THROW((void)parse_center("video"), UsageError);
}

TEST(Readout, RefusesMasksThatDoNotFit) {
    const Sample s;
    const AttentionReadout readout({}, s.token_mask.narrow(2, 0, 6), at::kCPU);
    EXPECT_THROW((void)readout.read(s.q, s.k, {}, kLayout), c10::Error);
    EXPECT_THROW(AttentionReadout({}, s.query_mask, at::kCPU), c10::Error);
    EXPECT_THROW(
        AttentionReadout({Direction::kV2v, Value::kLogits, Center::kText}, s.query_mask, at::kCPU),
        c10::Error);
}

}  // namespace
}  // namespace matrix::alignment
