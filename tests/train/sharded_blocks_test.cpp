#include "matrix/train/sharded_blocks.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <numeric>

#include "distributed/thread_group.h"
#include "models/cogvideox/random_model.h"
#include "support/errors.h"
#include "support/tensors.h"
#include "train/noted_ranks.h"

namespace matrix {
namespace {

using distributed::Communicator;
using namespace models::testing;

std::unique_ptr<train::ShardedBlocks> sharded(Communicator& all) {
    std::vector<int> ranks(static_cast<std::size_t>(all.world_size()));
    std::iota(ranks.begin(), ranks.end(), 0);
    return std::make_unique<train::ShardedBlocks>(all.subgroup(ranks, "base"));
}

/// A block of 13 elements, which no 2 to 4 ranks share evenly, or of 2, too few for some.
std::vector<at::Tensor> block(std::int64_t number, at::ScalarType dtype) {
    const std::string name = "block " + std::to_string(number);
    return number == 2 ? std::vector{random_tensor({2}, name).to(dtype)}
                       : std::vector{random_tensor({2, 5}, name).to(dtype),
                                     random_tensor({3}, name + " bias").to(dtype)};
}

void expect_block(const std::vector<at::Tensor>& actual, std::int64_t number,
                  at::ScalarType dtype) {
    const std::vector<at::Tensor> expected = block(number, dtype);
    ASSERT_EQ(actual.size(), expected.size()) << number;
    for (std::size_t i = 0; i < actual.size(); ++i) {
        test::expect_equal(actual[i], expected[i], "block " + std::to_string(number));
    }
}

class ShardedBlocks : public ::testing::TestWithParam<int> {};

TEST_P(ShardedBlocks, HaveTheBitsOfTheWhole) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        test::run_in_threads(GetParam(), [&](Communicator& all) {
            const auto blocks = sharded(all);
            for (std::int64_t i = 0; i < 3; ++i) {
                const std::vector<at::Tensor> tensors = block(i, dtype);
                const std::vector<at::Tensor> stand_ins = blocks->adopt(tensors);
                ASSERT_EQ(stand_ins.size(), tensors.size());
                for (std::size_t t = 0; t < tensors.size(); ++t) {
                    EXPECT_EQ(stand_ins[t].sizes(), tensors[t].sizes());
                    EXPECT_EQ(stand_ins[t].scalar_type(), dtype);
                    EXPECT_EQ(stand_ins[t].storage().nbytes(), tensors[t].element_size())
                        << "one element";
                }
            }
            for (const std::int64_t i : {0, 1, 2, 2, 1, 0, 2}) {  // in any order, and again
                expect_block(blocks->acquire(i), i, dtype);
            }
        });
    }
}

TEST_P(ShardedBlocks, KeepTheirShare) {
    test::run_in_threads(GetParam(), [world = GetParam()](Communicator& all) {
        const auto blocks = sharded(all);
        (void)blocks->adopt({at::ones({world * 50, 20})});
        EXPECT_EQ(blocks->kept_bytes(), 50 * 20 * 4);
        (void)blocks->adopt({at::ones({world * 50 + 1})});  // filled up to a share more
        EXPECT_EQ(blocks->kept_bytes(), (50 * 20 + 51) * 4);
    });
}

TEST_P(ShardedBlocks, PrefetchesGatherAheadAndNothingElse) {
    test::run_in_threads(GetParam(), [](Communicator& all) {
        test::NotedRanks::Notes notes;
        train::ShardedBlocks blocks(std::make_unique<test::NotedRanks>(all, notes));
        for (std::int64_t i = 0; i < 3; ++i) {
            (void)blocks.adopt(block(i, at::kFloat));
        }
        for (const std::int64_t number : {-1, 3, 2, 0, 2}) {  // none, none, and one under way
            blocks.prefetch(number);
        }
        using Names = std::vector<std::string>;
        EXPECT_EQ(notes.names, (Names{"weights of block 2", "weights of block 0"}));
        expect_block(blocks.acquire(0), 0, at::kFloat);
        expect_block(blocks.acquire(1), 1, at::kFloat);
        expect_block(blocks.acquire(2), 2, at::kFloat);
        EXPECT_EQ(notes.names,
                  (Names{"weights of block 2", "weights of block 0", "weights of block 1"}));
        blocks.prefetch(1);  // never acquired
    });
}

TEST_P(ShardedBlocks, AreGoneWhenNobodyHoldsThem) {
    test::run_in_threads(GetParam(), [](Communicator& all) {
        const auto blocks = sharded(all);
        (void)blocks->adopt(block(0, at::kFloat));
        std::vector<at::Tensor> held = blocks->acquire(0);
        const c10::weak_intrusive_ptr<c10::StorageImpl> storage(
            c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(
                held[0].storage().unsafeGetStorageImpl()));
        held.pop_back();
        EXPECT_FALSE(storage.expired());
        held.clear();
        EXPECT_TRUE(storage.expired());
    });
}

/// Forward and backward, and a forward alone.
std::map<std::string, at::Tensor> results(models::CogVideoXTransformer& model, nn::Keep keep) {
    std::map<std::string, at::Tensor> values = differentiated(model, keep);
    const at::NoGradGuard no_grad;
    values["sample without gradients"] = model.forward(random_input(), {}).sample;
    return values;
}

TEST_P(ShardedBlocks, AreTheModel) {
    models::CogVideoXConfig bare = random_config();
    bare.attention_bias = bare.norm_elementwise_affine = false;
    for (const models::CogVideoXConfig& config : {random_config(), bare}) {
        for (const nn::Keep keep : {nn::Keep::kAttention, nn::Keep::kProducts, nn::Keep::kGraph}) {
            models::CogVideoXTransformer resident = random_model(config);
            const auto expected = results(resident, keep);
            test::run_in_threads(GetParam(), [&](Communicator& all) {
                models::CogVideoXTransformer model = random_model(config, sharded(all));
                const auto actual = results(model, keep);
                ASSERT_EQ(actual.size(), 27u);
                for (const auto& [name, value] : expected) {
                    test::expect_equal(actual.at(name), value, name);
                }
            });
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ShardedBlocks, ::testing::Values(2, 3, 4));

TEST(ShardedBlocks, AreOfOneDtype) {
    test::run_in_threads(2, [](Communicator& all) {
        const auto blocks = sharded(all);
        test::expect_error<c10::Error>(
            [&] {
                (void)blocks->adopt({at::ones({2}), at::ones({2}, at::kBFloat16)});
            },
            {"a sharded block of several dtypes"});
    });
}

}  // namespace
}  // namespace matrix
