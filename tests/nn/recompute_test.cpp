#include "matrix/nn/recompute.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "matrix/nn/offload.h"
#include "support/tensors.h"

namespace matrix::nn {
namespace {

constexpr double kScale = 0.5;

/// A miniature of a block: attention through the memo, a parameter, and a second output.
class Recompute : public testing::Test {
protected:
    Recompute() {
        at::manual_seed(6);
        parameter_.set_requires_grad(true);
        x_.set_requires_grad(true);
    }

    [[nodiscard]] BlockFunction block() const {
        return [this](const std::vector<at::Tensor>& inputs, RecomputeMemo& memo) {
            ++runs_;
            const at::Tensor q = inputs[0] * parameter_;
            const auto result = kernels::attention(q, inputs[0], inputs[1], kScale,
                                                   RecomputeMemo::take(memo.attention));
            if (memo.fills(Keep::kOffloaded)) {
                memo.attention = result;
            }
            return std::vector<at::Tensor>{at::tanh(result.output) + inputs[0], q.sum({1, 2, 3})};
        };
    }
    [[nodiscard]] std::vector<at::Tensor> keep_everything() const {
        RecomputeMemo memo;
        return block()({x_, value_}, memo);
    }
    [[nodiscard]] std::vector<at::Tensor> recompute(Keep keep = Keep::kAttention) const {
        return recompute_in_backward(block(), {x_, value_}, {parameter_}, keep, offload_);
    }
    /// Gradients of x and the parameter.
    [[nodiscard]] std::vector<at::Tensor> differentiate(
        const std::vector<at::Tensor>& roots) const {
        std::vector<at::Tensor> seeds;
        for (const at::Tensor& root : roots) {
            seeds.push_back(at::cos(root.detach()));
        }
        return torch::autograd::grad(roots, {x_, parameter_}, seeds, true, false, true);
    }

    mutable int runs_ = 0;
    at::Tensor x_ = at::randn({2, 2, 5, 8}), value_ = at::randn({2, 2, 5, 8}),
               parameter_ = at::randn({8});
    std::shared_ptr<ActivationOffload> offload_ = make_activation_offload();
};

TEST_F(Recompute, HasTheBitsOfKeepingEverything) {
    const auto kept = keep_everything(), expected = differentiate(kept);
    for (const Keep keep : {Keep::kInput, Keep::kOffloaded, Keep::kAttention}) {
        runs_ = 0;
        const auto outputs = recompute(keep);
        ASSERT_EQ(outputs.size(), 2u);
        test::expect_equal(outputs[0], kept[0], "output");
        test::expect_equal(outputs[1], kept[1], "second output");
        const auto actual = differentiate(outputs);
        test::expect_equal(actual[0], expected[0], "gradient of x");
        test::expect_equal(actual[1], expected[1], "gradient of the parameter");
        EXPECT_EQ(runs_, 2);
    }
}

// The node has no more of the inputs than their copies.
TEST_F(Recompute, LetsGoOfWhatIsOffloaded) {
    const auto holders = [&] { return x_.use_count() + x_.storage().use_count(); };
    const auto before = holders();
    const auto resident = recompute();
    EXPECT_GT(holders(), before);
    const auto alone = holders();
    const auto offloaded = recompute(Keep::kOffloaded);
    EXPECT_EQ(holders(), alone);
    EXPECT_GT(offload_->host_bytes(), 0);
}

TEST_F(Recompute, WithNowhereToOffloadToIsRefused) {
    EXPECT_THROW((void)recompute_in_backward(block(), {x_, value_}, {}, Keep::kOffloaded),
                 c10::Error);
}

/// Says what is asked of another one, block by block.
class Watched final : public ActivationOffload {
public:
    using Log = std::vector<std::string>;
    Watched(std::shared_ptr<ActivationOffload> offload, Log& log)
        : offload_(std::move(offload)), log_(log) {}
    std::weak_ptr<OffloadedTensors> end_block() override {
        (void)offload_->end_block();
        return std::exchange(latest_, {});
    }
    std::shared_ptr<OffloadedTensors> store(const std::vector<at::Tensor>& tensors) override {
        const auto stored = std::make_shared<Part>(offload_->store(tensors), log_, count_++);
        latest_ = stored;
        return stored;
    }
    [[nodiscard]] std::int64_t host_bytes() const override { return offload_->host_bytes(); }

private:
    struct Part final : OffloadedTensors {
        Part(std::shared_ptr<OffloadedTensors> all, Log& words, int number)
            : tensors(std::move(all)), log(words), name(std::to_string(number)) {}
        void fetch() override {
            log.push_back("fetch " + name);
            tensors->fetch();
        }
        std::vector<at::Tensor> take() override {
            log.push_back("take " + name);
            return tensors->take();
        }
        std::shared_ptr<OffloadedTensors> tensors;
        Log& log;
        std::string name;
    };

    std::shared_ptr<ActivationOffload> offload_;
    std::weak_ptr<OffloadedTensors> latest_;
    Log& log_;
    int count_ = 0;
};

TEST_F(Recompute, BringsBackWhatTheNextBlockNeeds) {
    Watched::Log log;
    const auto watched = std::make_shared<Watched>(offload_, log);
    const auto run = [&](const std::vector<Keep>& policy) {
        at::Tensor x = x_;
        for (const Keep keep : policy) {
            x = recompute_in_backward(block(), {x, value_}, {parameter_}, keep, watched)[0];
        }
        log.clear();
        return torch::autograd::grad({x.sum()}, {x_, parameter_});
    };
    const auto expected = run(std::vector(4, Keep::kAttention));
    EXPECT_TRUE(log.empty());
    using enum Keep;
    const auto actual = run({kOffloaded, kOffloaded, kAttention, kOffloaded});
    EXPECT_EQ(log, (Watched::Log{"take 2", "fetch 1", "take 1", "fetch 0", "take 0"}));
    test::expect_equal(actual[0], expected[0], "gradient of x");
    test::expect_equal(actual[1], expected[1], "gradient of the parameter");
    // Nobody brings back what no block before the running one has.
    (void)run({kOffloaded, kAttention, kAttention, kInput});
    EXPECT_EQ(log, (Watched::Log{"fetch 3", "take 3"}));
}

TEST_F(Recompute, OneOutputAlone) {
    for (const std::size_t i : {0u, 1u}) {
        const auto expected = differentiate({keep_everything()[i]});
        const auto actual = differentiate({recompute()[i]});
        test::expect_equal(actual[0], expected[0], "gradient of x");
        test::expect_equal(actual[1], expected[1], "gradient of the parameter");
    }
}

TEST_F(Recompute, ConstantsGetNoGradient) {
    const auto outputs =
        recompute_in_backward(block(), {x_.detach(), value_}, {parameter_}, Keep::kInput);
    const auto grads = torch::autograd::grad({outputs[0].sum()}, {parameter_});
    x_.set_requires_grad(false);
    const auto expected = torch::autograd::grad({keep_everything()[0].sum()}, {parameter_});
    test::expect_equal(grads[0], expected[0], "gradient of the parameter");
}

// Without a graph over the first run there is nothing that holds its activations.
TEST_F(Recompute, FirstRunBuildsNoGraph) {
    bool saw_graph = false;
    const BlockFunction probe = [&](const std::vector<at::Tensor>& inputs, RecomputeMemo& memo) {
        const at::Tensor y = inputs[0] * parameter_;
        saw_graph = saw_graph || (!memo.recomputing && y.requires_grad());
        return std::vector<at::Tensor>{y};
    };
    const auto outputs = recompute_in_backward(probe, {x_}, {parameter_}, Keep::kInput);
    EXPECT_FALSE(saw_graph);
    EXPECT_TRUE(outputs[0].requires_grad());
}

TEST_F(Recompute, SecondDifferentiationIsRefused) {
    const auto outputs = recompute();
    (void)differentiate({outputs[0]});
    EXPECT_THROW((void)differentiate({outputs[0]}), c10::Error);
}

TEST_F(Recompute, ParameterThatIsNotListedIsRefused) {
#ifndef MATRIX_CHECK_LEAVES
    GTEST_SKIP() << "the graph is walked in builds other than Release";
#endif
    const auto outputs = recompute_in_backward(block(), {x_, value_}, {}, Keep::kInput);
    EXPECT_THROW((void)torch::autograd::grad({outputs[0].sum()}, {x_}), c10::Error);
}

}  // namespace
}  // namespace matrix::nn
