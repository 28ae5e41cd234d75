#include "matrix/nn/sequence.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "distributed/thread_group.h"
#include "matrix/train/ranks.h"
#include "support/errors.h"
#include "support/tensors.h"

// B batch, S joint rows, R rows of a rank, H heads, d head width, n ranks.

namespace matrix::nn {
namespace {

/// A sequence split over so many ranks.
struct Split {
    const char* name;
    TokenLayout layout;
    int ranks;
    std::int64_t heads;
    std::vector<std::int64_t> text_rows;  ///< of each rank's range
};

TokenLayout joint(std::int64_t text, std::int64_t video) {
    return {TokenLayout::Attention::kJoint, text, 1, 1, video};
}

const Split kSplits[] = {
    {"even", joint(4, 8), 2, 6, {4, 0}},                         // rows 6 6
    {"text_fills_a_range", joint(5, 4), 2, 2, {5, 0}},           // 5 4
    {"text_passes_a_range", joint(6, 5), 3, 6, {4, 2, 0}},       // 4 4 3
    {"text_reaches_the_last", joint(9, 1), 3, 3, {4, 4, 1}},     // 4 4 2
    {"last_range_empty", joint(2, 7), 4, 4, {2, 0, 0, 0}},       // 3 3 3 0
    {"begins_behind_the_end", joint(2, 3), 4, 8, {2, 0, 0, 0}},  // 2 2 1 0, the last from row 6
    {"fewer_rows_than_ranks", joint(1, 1), 4, 4, {1, 0, 0, 0}},  // 1 1 0 0
};

class Sequence : public ::testing::TestWithParam<Split> {
protected:
    /// [B, S, H, d], no two values alike.
    [[nodiscard]] static at::Tensor whole(double first) {
        const std::vector<std::int64_t> shape = {2, GetParam().layout.num_queries(),
                                                 GetParam().heads, 3};
        return (at::arange(c10::multiply_integers(shape), at::kFloat) + first).view(shape);
    }

    /// Runs `body` with the rows of each rank, the ranks being threads.
    static void on_every_rank(const std::function<void(const JointRows&)>& body) {
        test::run_in_threads(GetParam().ranks, [&](distributed::Communicator& all) {
            const auto group = train::make_sequence_group(all, GetParam().ranks);
            body(JointRows::of(GetParam().layout, group.get()));
        });
    }

    /// A rank's range of the rows of x, with `fill` where there are none: [B, R, H, d].
    [[nodiscard]] static at::Tensor range(const at::Tensor& x, const JointRows& rows, double fill) {
        const std::int64_t end = GetParam().ranks * rows.rows;
        return at::constant_pad_nd(x, {0, 0, 0, 0, 0, end - x.size(1)}, fill)
            .narrow(1, rows.begin(), rows.rows);
    }

    /// x [B, S, ...] with zeros outside a rank's range.
    [[nodiscard]] static at::Tensor without_others(const at::Tensor& x, const JointRows& rows) {
        const at::Tensor row = at::arange(x.size(1));
        const at::Tensor own =
            row.ge(rows.begin()).logical_and(row.lt(rows.begin() + rows.rows));  // [S]
        return at::where(own.view({1, -1, 1, 1}), x, at::zeros_like(x));
    }

    /// The heads that a rank has in attention: [B, S, H / n, d].
    [[nodiscard]] static at::Tensor own_heads(const at::Tensor& x, const JointRows& rows) {
        return x.chunk(GetParam().ranks, 2)[static_cast<std::size_t>(rows.group->rank())];
    }

    /// The gradient at x, given that of f(x).
    [[nodiscard]] static at::Tensor gradient(const std::function<at::Tensor(const at::Tensor&)>& f,
                                             const at::Tensor& x, const at::Tensor& of_result) {
        const at::Tensor leaf = x.clone().set_requires_grad(true);
        return torch::autograd::grad({f(leaf)}, {leaf}, {of_result})[0];
    }
};

TEST_P(Sequence, KnowsItsTextRows) {
    on_every_rank([](const JointRows& rows) {
        EXPECT_EQ(rows.rows,
                  (GetParam().layout.num_queries() + GetParam().ranks - 1) / GetParam().ranks);
        EXPECT_EQ(rows.begin(), rows.group->rank() * rows.rows);
        EXPECT_EQ(rows.text_rows,
                  GetParam().text_rows[static_cast<std::size_t>(rows.group->rank())]);
    });
}

TEST_P(Sequence, TakesRowsApartAndTogether) {
    const at::Tensor x = whole(1), y = whole(1000);
    on_every_rank([&](const JointRows& rows) {
        const at::Tensor own = own_rows(x, 1, rows);
        test::expect_equal(own, range(x, rows, 0), "own rows");
        test::expect_equal(own_rows(x.movedim(1, 3), 3, rows), own.movedim(1, 3), "last dimension");
        test::expect_equal(all_rows(own, rows), x, "all rows");
        const auto take = [&](const at::Tensor& t) { return own_rows(t, 1, rows); };
        test::expect_equal(gradient(take, x, range(y, rows, -1)), without_others(y, rows),
                           "gradient through own_rows");
        // Every rank has the gradient y of the one loss; their sum is n y.
        const auto gather = [&](const at::Tensor& t) { return all_rows(t, rows); };
        test::expect_equal(gradient(gather, own, y), range(y, rows, 0) * GetParam().ranks,
                           "gradient through all_rows");
    });
}

// What moves values only has the way back as its adjoint.
TEST_P(Sequence, ChangesRowsForHeads) {
    const at::Tensor x = whole(1), y = whole(1000);
    on_every_rank([&](const JointRows& rows) {
        const at::Tensor ranges = range(x, rows, 0), heads = own_heads(x, rows);
        const auto there = [&](const at::Tensor& t) { return rows_to_heads(t, rows); };
        const auto back = [&](const at::Tensor& t) { return heads_to_rows(t, rows); };
        test::expect_equal(there(ranges), heads, "rows to heads");
        test::expect_equal(back(heads), ranges, "heads to rows");
        test::expect_equal(gradient(there, ranges, own_heads(y, rows)), range(y, rows, 0),
                           "gradient through rows_to_heads");
        // What stands behind the last row reaches nothing.
        test::expect_equal(there(range(x, rows, -1)), heads, "rows to heads, filled up");
        test::expect_equal(gradient(back, heads, range(y, rows, -1)), own_heads(y, rows),
                           "gradient through heads_to_rows");
    });
}

INSTANTIATE_TEST_SUITE_P(Splits, Sequence, ::testing::ValuesIn(kSplits),
                         [](const auto& test) { return test.param.name; });

TEST(SequenceOfOne, HasAllRows) {
    const JointRows rows = JointRows::of(joint(3, 4), nullptr);
    EXPECT_EQ(rows.rows, 7);
    EXPECT_EQ(rows.text_rows, 3);
    EXPECT_EQ(rows.begin(), 0);
}

TEST(SequenceGroup, GathersWithTheGradientOfAllRanks) {
    test::run_in_threads(3, [](distributed::Communicator& all) {
        const auto group = train::make_sequence_group(all, 3);
        const at::Tensor own = at::full({2}, group->rank(), at::kFloat).set_requires_grad(true);
        const at::Tensor gathered = of_all_ranks(own, *group);
        test::expect_equal(gathered.detach(), at::arange(3, at::kFloat).view({3, 1}).expand({3, 2}),
                           "gathered");
        const at::Tensor seed = at::arange(6, at::kFloat).view({3, 2});
        test::expect_equal(torch::autograd::grad({gathered}, {own}, {seed})[0],
                           seed[group->rank()] * 3, "gradient");
    });
}

// Consecutive ranks are a replica.
TEST(SequenceGroup, IsAReplica) {
    test::run_in_threads(4, [](distributed::Communicator& all) {
        EXPECT_EQ(train::make_sequence_group(all, 1), nullptr);
        const auto group = train::make_sequence_group(all, 2);
        EXPECT_EQ(group->size(), 2);
        EXPECT_EQ(group->rank(), all.rank() % 2);
        const std::int64_t first = all.rank() / 2 * 2;
        test::expect_equal(group->all_gather(at::full({}, all.rank())),
                           at::tensor({first, first + 1}), "ranks of the replica");
    });
}

TEST(SequenceGroup, RefusesHeadsThatDoNotDivide) {
    test::run_in_threads(2, [](distributed::Communicator& all) {
        const auto group = train::make_sequence_group(all, 2);
        const JointRows rows = JointRows::of(joint(2, 2), group.get());
        test::expect_error<c10::Error>(
            [&] {
                (void)rows_to_heads(at::zeros({1, 2, 3, 4}), rows);
            },
            {"3 heads do not divide among 2 ranks"});
    });
}

}  // namespace
}  // namespace matrix::nn
