#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "models/cogvideox/random_model.h"
#include "support/errors.h"
#include "support/tensors.h"

// A forward's edits of attention: of the blocks that they name, and for inference alone.

namespace matrix::models {
namespace {

using namespace testing;

at::Tensor sample(std::map<std::int64_t, nn::AttentionEdit> edits) {
    const at::NoGradGuard no_grad;
    ForwardOptions options;
    options.edits = std::move(edits);
    return random_model(random_config()).forward(random_input(), options).sample;
}

at::Tensor keep(const nn::AttentionEditInput& in) {
    return in.output;
}

at::Tensor remove(const nn::AttentionEditInput& in) {
    return at::zeros_like(in.output);
}

TEST(Edits, AreOfTheirBlocks) {
    const at::Tensor plain = sample({});
    test::expect_equal(sample({{0, keep}, {2, keep}}), plain, "nothing edited");
    const at::Tensor first = sample({{0, remove}}), last = sample({{2, remove}});
    EXPECT_GT(test::relative_error(first, plain), 1e-3);
    EXPECT_GT(test::relative_error(last, plain), 1e-3);
    EXPECT_GT(test::relative_error(last, first), 1e-3);
}

TEST(Edits, SeeTheWholeBatch) {
    const auto second = [](const nn::AttentionEditInput& in) {
        return at::cat({in.output.narrow(0, 0, 1), at::zeros_like(in.output.narrow(0, 1, 1))});
    };
    const at::Tensor edited = sample({{1, second}}), plain = sample({});
    test::expect_equal(edited.narrow(0, 0, 1), plain.narrow(0, 0, 1), "the other clip");
    test::expect_equal(edited.narrow(0, 1, 1), sample({{1, remove}}).narrow(0, 1, 1), "edited");
}

TEST(Edits, WantABlockOfTheModelAndNoGradients) {
    const auto refuses = [](const std::function<void()>& run) {
        test::expect_error<c10::Error>(run, {"attention edits are for the model's own blocks"});
    };
    refuses([] { (void)sample({{3, keep}}); });
    refuses([] { (void)sample({{-1, keep}}); });
    refuses([] {
        ForwardOptions options;
        options.edits = {{0, keep}};
        (void)random_model(random_config()).forward(random_input(), options);
    });
}

}  // namespace
}  // namespace matrix::models
