#include "matrix/train/gradient_exchange.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <mutex>

#include "distributed/thread_group.h"
#include "matrix/train/ranks.h"
#include "support/errors.h"
#include "support/tensors.h"
#include "train/noted_ranks.h"

namespace matrix {
namespace {

using distributed::Communicator;
using test::NotedRanks;
using train::GradientExchange;
using Parameters = std::map<std::string, at::Tensor>;

at::Tensor parameter(std::int64_t size) {
    return (at::arange(size, at::kFloat) + 1).set_requires_grad(true);
}

std::string block(int number) {
    return "transformer.transformer_blocks." + std::to_string(number) + ".attn1.to_out.0.lora_A";
}

/// A head, blocks 0 to 2 and the input projection, each of its own size.
Parameters parameters() {
    return {{block(0), parameter(3)},
            {block(1), parameter(4)},
            {block(2), parameter(5)},
            {"heads.grounding.beta", parameter(2)},
            {"transformer.patch_embed.proj.weight", parameter(6)}};
}

/// Runs blocks in order over a value that each of them changes: backward goes from the last.
at::Tensor forward(const Parameters& all, double factor, const std::string& unused = "") {
    at::Tensor x = all.at("transformer.patch_embed.proj.weight").square().sum();
    for (int i = 0; i < 3; ++i) {
        if (block(i) != unused) {
            x = x * factor + all.at(block(i)).square().sum() * x.sigmoid();
        }
    }
    return x * factor;
}

/// The head's gradient, which an objective adds before the backward.
void add_to_head(const Parameters& all, double factor) {
    const at::NoGradGuard no_grad;
    all.at("heads.grounding.beta").mutable_grad().add_(factor);
}

Parameters heads_of(const Parameters& all) {
    return {{"heads.grounding.beta", all.at("heads.grounding.beta")}};
}

/// What plain autograd gives for a rank that uses this factor, by name.
Parameters plain(double factor, const std::string& unused = "") {
    const Parameters all = parameters();
    forward(all, factor, unused).backward();
    Parameters gradients;
    for (const auto& [name, tensor] : all) {
        gradients[name] = tensor.grad().defined() ? tensor.grad() : at::zeros_like(tensor);
    }
    gradients["heads.grounding.beta"] += factor;
    return gradients;
}

void backward(GradientExchange& exchange, const Parameters& all, double factor,
              const std::string& unused = "") {
    const at::Tensor loss = forward(all, factor, unused);
    add_to_head(all, factor);
    exchange.exchange("gradients, step 7");
    exchange.complete(heads_of(all));
    loss.backward();
}

double factor_of(int rank) {
    return 0.1 * (rank + 1);
}

TEST(GradientExchange, BucketsAreInTheOrderOfTheBackward) {
    const auto sizes = [](Parameters all, std::int64_t bytes) {
        NotedRanks::Notes notes;
        NotedRanks ranks(train::Ranks::single().all, notes);
        GradientExchange exchange(all, ranks, bytes);
        exchange.begin();
        exchange.exchange("gradients, step 7");
        exchange.finish();
        EXPECT_EQ(exchange.num_buckets(), notes.sizes.size());
        for (const std::string& name : notes.names) {
            EXPECT_EQ(name, "gradients, step 7");
        }
        return notes.sizes;
    };
    using Sizes = std::vector<std::int64_t>;
    Parameters all = parameters();
    EXPECT_EQ(sizes(all, 1), (Sizes{2, 5, 4, 3, 6})) << "heads, blocks 2 1 0, the rest";
    EXPECT_EQ(sizes(all, 28), (Sizes{7, 7, 6})) << "as many as fit into 28 bytes";
    EXPECT_EQ(sizes(all, 27), (Sizes{2, 5, 4, 3, 6}));
    EXPECT_EQ(sizes(all, train::kBucketBytes), (Sizes{20}));
    all[block(10)] = parameter(7);
    EXPECT_EQ(sizes(all, 1), (Sizes{2, 7, 5, 4, 3, 6})) << "block 10 comes after block 2";
}

class GradientExchangeOf : public ::testing::TestWithParam<int> {};

TEST_P(GradientExchangeOf, AveragesWhileBackwardRuns) {
    const int world = GetParam();
    test::run_in_threads(world, [world](Communicator& group) {
        const Parameters all = parameters();
        NotedRanks::Notes notes;
        NotedRanks ranks(group, notes);
        GradientExchange exchange(all, ranks, 1);
        for (int step = 0; step < 2; ++step) {  // the second has nothing of the first
            notes.sizes.clear();
            exchange.begin();
            backward(exchange, all, factor_of(group.rank()));
            EXPECT_EQ(notes.sizes.size(), 5u) << "exchanges that backward starts";
            exchange.finish();
            EXPECT_EQ(exchange.num_overlapped(), 5u);
            EXPECT_EQ(notes.sizes, (std::vector<std::int64_t>{2, 5, 4, 3, 6}));
            for (const auto& [name, tensor] : all) {
                at::Tensor mean = at::zeros_like(tensor);
                for (int rank = 0; rank < world; ++rank) {
                    mean = mean + plain(factor_of(rank)).at(name) / world;
                }
                test::expect_close(tensor.grad(), mean, 1e-6, name);
            }
        }
    });
}

// A rank that leaves a tensor out has the same exchanges in the same order: the communicator of
// this test refuses sizes that do not match.
TEST_P(GradientExchangeOf, CountsWhatARankDoesNotReachAsZero) {
    const int world = GetParam();
    for (const int missing : {2, 0}) {  // the blocks whose gradients come first and last
        std::mutex mutex;
        std::vector<Parameters> of_ranks;
        test::run_in_threads(world, [&](Communicator& group) {
            const Parameters all = parameters();
            GradientExchange exchange(all, group, 1);
            exchange.begin();
            backward(exchange, all, factor_of(group.rank()),
                     group.rank() == 1 ? block(missing) : "");
            exchange.finish();
            const std::size_t in_time = missing == 2 ? 1 : 3;  // the head; then blocks 2 and 1
            EXPECT_EQ(exchange.num_overlapped(), group.rank() == 1 ? in_time : 5u);
            const std::lock_guard lock(mutex);
            Parameters& gradients = of_ranks.emplace_back();
            for (const auto& [name, tensor] : all) {
                gradients[name] = tensor.grad().clone();
                at::Tensor mean = at::zeros_like(tensor);
                for (int rank = 0; rank < world; ++rank) {
                    mean = mean + plain(factor_of(rank), rank == 1 ? block(missing) : "").at(name);
                }
                test::expect_close(tensor.grad(), mean / world, 1e-6, name);
                test::expect_equal(tensor.grad(), of_ranks.front().at(name), name);
            }
        });
    }
}

INSTANTIATE_TEST_SUITE_P(Ranks, GradientExchangeOf, ::testing::Values(2, 4));

TEST(GradientExchange, ExchangesTheLastMicroBatchAlone) {
    Parameters all = parameters();
    all.erase("heads.grounding.beta");  // whose bucket would hold up the others
    NotedRanks::Notes notes;
    NotedRanks ranks(train::Ranks::single().all, notes);
    GradientExchange exchange(all, ranks, 1);
    exchange.begin();
    forward(all, 0.1).backward();
    forward(all, 0.2).backward();
    EXPECT_TRUE(notes.sizes.empty());
    exchange.exchange("gradients, step 7");
    EXPECT_TRUE(notes.sizes.empty()) << "what is complete belongs to earlier micro-batches";
    forward(all, 0.3).backward();
    exchange.finish();
    EXPECT_EQ(notes.sizes, (std::vector<std::int64_t>{5, 4, 3, 6}));
    for (const auto& [name, tensor] : all) {
        test::expect_close(tensor.grad(),
                           plain(0.1).at(name) + plain(0.2).at(name) + plain(0.3).at(name), 1e-6,
                           name);
    }
}

TEST(GradientExchange, OfOneProcessIsPlainAutograd) {
    const Parameters all = parameters(), expected = plain(0.3);
    GradientExchange exchange(all, train::Ranks::single().all);
    exchange.begin();
    backward(exchange, all, 0.3);
    exchange.finish();
    for (const auto& [name, tensor] : all) {
        test::expect_equal(tensor.grad(), expected.at(name), name);
    }
}

TEST(GradientExchange, LeavesTheParametersAsTheyWere) {
    const Parameters all = parameters();
    {
        GradientExchange exchange(all, train::Ranks::single().all, 1);
        exchange.begin();
        EXPECT_NE(torch::autograd::impl::post_acc_grad_hooks(all.at(block(0))), nullptr);
    }
    for (const auto& [name, tensor] : all) {
        EXPECT_FALSE(tensor.grad().defined()) << name;
        EXPECT_EQ(torch::autograd::impl::post_acc_grad_hooks(tensor), nullptr) << name;
    }
    forward(all, 0.3).backward();
    test::expect_equal(all.at(block(1)).grad(), plain(0.3).at(block(1)), "gradient afterwards");
}

TEST(GradientExchange, RefusesWhatItCannotAverage) {
    Communicator& ranks = train::Ranks::single().all;
    test::expect_error<c10::Error>(
        [&] {
            GradientExchange({{"heads.a", at::zeros({2}, at::kBFloat16).set_requires_grad(true)}},
                             ranks);
        },
        {"gradients of heads.a are BFloat16, not float32"});
    const Parameters all = parameters();
    GradientExchange exchange(all, ranks);
    exchange.begin();
    backward(exchange, all, 0.3);
    all.at(block(1)).mutable_grad() = at::zeros({4});
    test::expect_error<c10::Error>([&] { exchange.finish(); },
                                   {"a gradient of shape [4] has left its bucket"});
}

}  // namespace
}  // namespace matrix
