#include "kernels/attention_choice.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "support/errors.h"
#include "support/tensors.h"

// CPU attention under several names, some of it made wrong.

namespace matrix::kernels {
namespace {

using Change = std::function<void(AttentionResult&)>;
using ChangeGradients = std::function<void(AttentionGradients&)>;

class Choice : public testing::Test {
protected:
    /// `seconds` is what timing it gives.
    void add(const std::string& name, double seconds, const Change& change = {},
             const ChangeGradients& change_gradients = {}) {
        seconds_[name] = seconds;
        candidates_.push_back(
            {name,
             [=, this](const auto& q, const auto& k, const auto& v, double scale) {
                 last_ = name;
                 AttentionResult result = cpu_attention().run(q, k, v, scale);
                 if (change) {
                     change(result);
                 }
                 return result;
             },
             [=](const auto& grad, const auto& q, const auto& k, const auto& v, const auto& result,
                 double scale) {
                 auto grads = cpu_attention().run_backward(grad, q, k, v, result, scale);
                 if (change_gradients) {
                     change_gradients(grads);
                 }
                 return grads;
             }});
    }
    AttentionChoice choice() {
        return {candidates_, [this](const at::Tensor&, const std::function<void()>& call) {
                    call();
                    ++timed_;
                    return seconds_.at(last_);
                }};
    }
    static at::Tensor tensor(std::int64_t rows = 7, at::ScalarType dtype = at::kFloat) {
        return at::ones({1, 2, rows, 8}).to(dtype);
    }

    std::vector<AttentionBackend> candidates_;
    std::map<std::string, double> seconds_;
    std::string last_;
    int timed_ = 0;
};

std::string chosen(AttentionChoice& choice, const at::Tensor& x) {
    return choice.of(x, x, x, 0.3).name;
}

TEST_F(Choice, IsTheFastestAndIsMadeOnceAShape) {
    add("slow", 2);
    add("fast", 1);
    add("slower", 3);
    AttentionChoice all = choice();
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    EXPECT_EQ(chosen(all, tensor()), "fast");
    EXPECT_EQ(timed_, 3);
    seconds_["slow"] = 0.5;
    EXPECT_EQ(chosen(all, tensor()), "fast");
    EXPECT_EQ(timed_, 3) << "was timed again";
    EXPECT_EQ(chosen(all, tensor(9)), "slow") << "another shape has another choice";
    EXPECT_EQ(chosen(all, tensor(7, at::kBFloat16)), "slow");
    EXPECT_EQ(timed_, 9);
    const std::string text =
        testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr();
    EXPECT_NE(text.find("attention on cpu, Float [1, 2, 7, 8]: fast, the fastest of slow 2e+03 ms, "
                        "fast 1e+03 ms, slower 3e+03 ms"),
              std::string::npos)
        << text;
}

TEST_F(Choice, LeavesOutWhateverIsWrong) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    add("output", 1, [](AttentionResult& r) { r.output = r.output * 1.3; });
    add("log-sum-exp", 1, [](AttentionResult& r) { r.log_sum_exp = r.log_sum_exp * 1.4427; });
    add("gradient of q", 1, {}, [=](auto& g) { std::get<0>(g)[0][0][191].fill_(nan); });
    add("gradient of k", 1, {}, [](auto& g) { std::get<1>(g).zero_(); });
    add("gradient of v", 1, {}, [](auto& g) { std::get<2>(g) = -std::get<2>(g); });
    add("throws", 1, [](AttentionResult&) { TORCH_CHECK(false, "no engine"); });
    add("right", 5);
    add("right too", 4);
    AttentionChoice all = choice();
    testing::internal::CaptureStderr();
    EXPECT_EQ(chosen(all, tensor()), "right too");
    const std::string text = testing::internal::GetCapturedStderr();
    for (const char* name :
         {"output", "log-sum-exp", "gradient of q", "gradient of k", "gradient of v", "throws"}) {
        EXPECT_NE(text.find("the kernel for " + std::string(name) + " attention"),
                  std::string::npos)
            << name << '\n'
            << text;
    }
    EXPECT_EQ(text.find("right"), std::string::npos) << text;
}

TEST_F(Choice, LeavesOutWhatFailsAtTheCallsSize) {
    add("for few rows", 1, [](AttentionResult& r) {
        TORCH_CHECK(r.output.size(2) <= 192, "no plan for so many rows");
    });
    add("for all", 5);
    AttentionChoice all = choice();
    EXPECT_EQ(chosen(all, tensor()), "for few rows");
    testing::internal::CaptureStderr();
    EXPECT_EQ(chosen(all, tensor(193)), "for all");
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_NE(text.find("attention on cpu, Float [1, 2, 193, 8]: for few rows fails and is not "
                        "used: no plan for so many rows"),
              std::string::npos)
        << text;
}

TEST(WithChannelsAdded, ChangesNoValue) {
    const AttentionBackend &plain = cpu_attention(),
                           wide = with_channels_added([&] {
                               AttentionBackend strict = plain;
                               strict.run = [&](const auto& q, const auto& k, const auto& v,
                                                double scale) {
                                   EXPECT_EQ(q.size(3) % 8 + k.size(3) % 8 + v.size(3) % 8, 0);
                                   return plain.run(q, k, v, scale);
                               };
                               return strict;
                           }());
    for (const std::int64_t channels : {8, 10, 3}) {
        at::manual_seed(channels);
        const auto random = [&] { return at::randn({2, 2, 5, channels}); };
        const at::Tensor q = random(), k = random(), v = random(), grad = random();
        const AttentionResult expected = plain.run(q, k, v, 0.3), actual = wide.run(q, k, v, 0.3);
        test::expect_close(actual.output, expected.output, 1e-6, "output");
        test::expect_close(actual.log_sum_exp, expected.log_sum_exp, 1e-6, "log-sum-exp");
        const auto [q1, k1, v1] = plain.run_backward(grad, q, k, v, expected, 0.3);
        const auto [q2, k2, v2] = wide.run_backward(grad, q, k, v, actual, 0.3);
        test::expect_close(q2, q1, 1e-5, "gradient of q");
        test::expect_close(k2, k1, 1e-5, "gradient of k");
        test::expect_close(v2, v1, 1e-5, "gradient of v");
    }
}

TEST_F(Choice, OfOneIsNotTimed) {
    add("wrong", 1, [](AttentionResult& r) { r.output = r.output * 2; });
    add("right", 2);
    AttentionChoice all = choice();
    EXPECT_EQ(chosen(all, tensor()), "right");
    EXPECT_EQ(timed_, 0);
}

TEST_F(Choice, OfNoneIsAnError) {
    add("wrong", 1, [](AttentionResult& r) { r.output = r.output * 2; });
    AttentionChoice all = choice();
    test::expect_error([&] { (void)chosen(all, tensor()); },
                       {"attention on cpu, Float [1, 2, 7, 8]: no kernel"});
}

}  // namespace
}  // namespace matrix::kernels
