#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "distributed/thread_group.h"
#include "matrix/alignment/readout.h"
#include "matrix/train/ranks.h"
#include "models/cogvideox/random_model.h"
#include "support/tensors.h"

// A clip whose rows are split over ranks is the clip. E entities; 26 rows: 8 of text, 18 of video.
// Of two ranks each has video rows, of four the first has text rows alone, and the last is short.

namespace matrix::models {
namespace {

using namespace testing;
using alignment::ReadoutOptions;
using Direction = ReadoutOptions::Direction;
using Value = ReadoutOptions::Value;

/// What a forward and backward come to.
struct Results {
    at::Tensor sample;
    std::map<std::int64_t, at::Tensor> taps;
    std::map<std::string, at::Tensor> gradients;
};

struct Readout {
    const char* name;
    Direction direction;
    Value value;
    nn::Tap::OverHeads over_heads = nn::Tap::OverHeads::kMean;
};

const Readout kReadouts[] = {
    {"v2t_logits", Direction::kV2t, Value::kLogits},
    {"v2v_logits", Direction::kV2v, Value::kLogits},
    {"t2v_logits", Direction::kT2v, Value::kLogits},
    {"v2t_probabilities", Direction::kV2t, Value::kProbabilities},
    {"v2t_log_probabilities", Direction::kV2t, Value::kLogProbabilities,
     nn::Tap::OverHeads::kLogMean},
};

class Context : public ::testing::TestWithParam<std::tuple<int, nn::Keep, Readout>> {
protected:
    /// Of three entities of two clips the second of the first clip is absent.
    [[nodiscard]] static nn::Tap tap() {
        const Readout& readout = std::get<Readout>(GetParam());
        at::Tensor mask = readout.direction == Direction::kV2v ? at::zeros({2, 3, 2, 3}, at::kByte)
                                                               : at::zeros({2, 3, 8}, at::kByte);
        for (std::int64_t i = 0; i < 6; ++i) {
            if (i != 1) {
                mask.view({6, -1})[i][i % 5] = 1;
                mask.view({6, -1})[i][(2 * i + 1) % 6] = 1;
            }
        }
        const alignment::AttentionReadout read({readout.direction, readout.value}, mask, at::kCPU);
        return {[read](const nn::TapInput& in) {
                    return read.read(in.query, in.key, in.log_sum_exp, in.layout);
                },
                readout.over_heads};
    }

    [[nodiscard]] static Results run(const nn::SequenceGroup* group) {
        CogVideoXTransformer model = random_model(random_config());
        const std::map<std::string, at::Tensor> leaves = attach_random_lora(model);
        ForwardOptions options;
        options.keep = {std::get<nn::Keep>(GetParam())};
        options.sequence = group;
        options.taps = {{0, tap()}, {2, tap()}};
        const BackboneOutput output = model.forward(random_input(), options);

        std::vector<at::Tensor> roots = {output.sample}, seeds;
        seeds.push_back(random_tensor(output.sample.sizes(), "cotangent"));
        for (const auto& [block, read] : output.tap_outputs) {
            roots.push_back(read);
            seeds.push_back(random_tensor(read.sizes(), "cotangent of a tap") * 5);
            seeds.back()[0][1].zero_();  // as for every entity that is absent
        }
        torch::autograd::backward(roots, seeds);
        Results results{output.sample.detach(), output.tap_outputs, {}};
        for (const auto& [name, leaf] : leaves) {
            results.gradients[name] = leaf.grad();
        }
        return results;
    }
};

TEST_P(Context, OfSeveralRanksIsThatOfOne) {
    const Results one = run(nullptr);
    std::mutex mutex;
    std::map<std::string, at::Tensor> means;
    const int ranks = std::get<int>(GetParam());
    test::run_in_threads(ranks, [&](distributed::Communicator& all) {
        const auto group = train::make_sequence_group(all, ranks);
        const Results own = run(group.get());
        const std::lock_guard lock(mutex);
        test::expect_close(own.sample, one.sample, 1e-5, "sample");
        ASSERT_EQ(own.taps.size(), 2u);
        for (const auto& [block, read] : own.taps) {
            ASSERT_FALSE(read.isnan().any().item<bool>()) << block;
            const bool logs = std::get<Readout>(GetParam()).value == Value::kLogProbabilities;
            // The log of no attention at all may be any that is as good as minus infinity.
            test::expect_close(logs ? read.exp() : read,
                               logs ? one.taps.at(block).exp() : one.taps.at(block), 1e-5,
                               "tap of block " + std::to_string(block));
        }
        for (const auto& [name, gradient] : own.gradients) {
            at::Tensor& mean = means[name];
            const at::Tensor share = gradient / ranks;
            mean = mean.defined() ? mean + share : share;
        }
    });
    ASSERT_EQ(means.size(), one.gradients.size());
    for (const auto& [name, gradient] : one.gradients) {
        ASSERT_FALSE(gradient.isnan().any().item<bool>()) << name;
        EXPECT_GT(gradient.abs().max().item<double>(), 0) << name;
        test::expect_close(means.at(name), gradient, 1e-4, name);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Splits, Context,
    ::testing::Combine(::testing::Values(2, 4),
                       ::testing::Values(nn::Keep::kOffloaded, nn::Keep::kGraph),
                       ::testing::ValuesIn(kReadouts)),
    [](const auto& test) {
        return std::string(std::get<Readout>(test.param).name) + "_ranks" +
               std::to_string(std::get<int>(test.param)) +
               (std::get<nn::Keep>(test.param) == nn::Keep::kGraph ? "" : "_offloaded");
    });

// A tap's minus infinity that gets the gradient zero gives zero, and not NaN, for what it is made
// of, as it would on one rank.
TEST(ContextTap, LeavesMinusInfinityWithoutGradient) {
    const auto gradients = [](const nn::SequenceGroup* group) {
        CogVideoXTransformer model = random_model(random_config());
        const auto leaves = attach_random_lora(model);
        ForwardOptions options;
        options.sequence = group;
        const auto read = [](const nn::TapInput& in) {
            return in.query.square().mean() + at::tensor({1.0F, 0.0F}).log();  // [2]
        };
        options.taps[2] = {read, nn::Tap::OverHeads::kLogMean};
        const at::Tensor tap = model.forward(random_input(), options).tap_outputs.at(2);
        torch::autograd::backward({tap}, {at::tensor({1.0F, 0.0F})});
        return leaves.at("transformer_blocks.2.attn1.to_q.A").grad();
    };
    EXPECT_GT(gradients(nullptr).abs().max().item<double>(), 0);
    test::run_in_threads(2, [&](distributed::Communicator& all) {
        const auto group = train::make_sequence_group(all, 2);
        EXPECT_TRUE(gradients(group.get()).isfinite().all().item<bool>());
    });
}

}  // namespace
}  // namespace matrix::models
