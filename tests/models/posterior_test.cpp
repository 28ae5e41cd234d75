#include "matrix/models/posterior.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "matrix/core/random.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace matrix::models {
namespace {

at::Tensor normal(const char* name) {
    return keyed_normal({4, 3, 2, 2}, 1, Purpose::kModelInit, name_key(name));
}

TEST(Posterior, SamplesAroundTheMean) {
    const at::Tensor mean = normal("mean"), noise = normal("noise");
    const at::Tensor logvar = normal("logvar") * 40.0;  // beyond both bounds
    ASSERT_LT(logvar.min().item<double>(), -30.0);
    ASSERT_GT(logvar.max().item<double>(), 20.0);
    const at::Tensor moments = at::cat({mean, logvar});
    const at::Tensor before = moments.clone();
    test::expect_equal(posterior_mean(moments), mean, "mean");
    const at::Tensor wanted = mean + at::exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise;
    test::expect_close(sample_posterior(moments, noise), wanted, 1e-6, "sample");
    test::expect_equal(moments, before, "moments");
    EXPECT_EQ(sample_posterior(moments.to(at::kBFloat16), noise).scalar_type(), at::kBFloat16);
}

TEST(Posterior, RefusesNoiseOfAnotherShape) {
    test::expect_error(
        [] {
            (void)sample_posterior(at::zeros({8, 1, 2, 2}), at::zeros({8, 1, 2, 2}));
        },
        {"posterior noise"});
}

}  // namespace
}  // namespace matrix::models
