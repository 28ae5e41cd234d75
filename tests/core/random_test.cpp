#include "matrix/core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "support/tensors.h"

namespace matrix {
namespace {

using test::expect_equal;

TEST(Random, DrawsDependOnTheKeyAlone) {
    const at::Tensor first = keyed_normal({3, 40}, 1, Purpose::kNoise, 5);
    (void)keyed_normal({7}, 1, Purpose::kNoise, 6);
    expect_equal(keyed_normal({3, 40}, 1, Purpose::kNoise, 5), first, "same key");
    for (const at::Tensor& other : {keyed_normal({3, 40}, 2, Purpose::kNoise, 5),
                                    keyed_normal({3, 40}, 1, Purpose::kNoise, 6),
                                    keyed_normal({3, 40}, 1, Purpose::kImageNoise, 5),
                                    // What a sum of the three would confuse.
                                    keyed_normal({3, 40}, 5, Purpose::kNoise, 1)}) {
        EXPECT_GT((other - first).abs().max().item<float>(), 0.5f);
        EXPECT_LT(std::abs((other * first).mean().item<float>()), 0.4f);
    }
    EXPECT_EQ(first.scalar_type(), at::kFloat);
}

TEST(Random, NormalValuesAreStandardNormal) {
    const at::Tensor x = keyed_normal({200'000}, 3, Purpose::kNoise, 0);
    // Five standard errors of 200000 values: 0.011 for the mean, 0.008 for the deviation.
    EXPECT_NEAR(x.mean().item<double>(), 0.0, 0.011);
    EXPECT_NEAR(x.std().item<double>(), 1.0, 0.008);
}

TEST(Random, ValuesOverKeysAreUniform) {
    double sum = 0;
    double square = 0;
    constexpr int kCount = 20'000;
    for (int i = 0; i < kCount; ++i) {
        const double u = keyed_uniform(9, Purpose::kTimestep, static_cast<std::uint64_t>(i));
        ASSERT_GE(u, 0.0);
        ASSERT_LT(u, 1.0);
        sum += u;
        square += u * u;
    }
    // Five standard errors: 0.29 / sqrt(20000) * 5 and 0.30 / sqrt(20000) * 5.
    EXPECT_NEAR(sum / kCount, 0.5, 0.0103);
    EXPECT_NEAR(square / kCount, 1.0 / 3, 0.0106);
}

TEST(Random, IntegersCoverTheirRange) {
    std::set<std::int64_t> seen;
    for (std::uint64_t i = 0; i < 200; ++i) {
        const std::int64_t value = keyed_integer(7, 1, Purpose::kImageVersion, i);
        ASSERT_GE(value, 0);
        ASSERT_LT(value, 7);
        seen.insert(value);
    }
    EXPECT_EQ(seen.size(), 7u);
    EXPECT_ANY_THROW((void)keyed_integer(0, 1, Purpose::kImageVersion, 0));
}

TEST(Random, KeyedValuesDoNotChangeBetweenVersions) {
    // Resumed runs and caches depend on them; computed by splitmix64 in Python.
    EXPECT_EQ(keyed_integer(1'000'000'000, 1, Purpose::kSynth, 2), 433461500);
    EXPECT_EQ(keyed_generator(1, Purpose::kSynth, 2).current_seed(), 1581974287488151189u);
}

TEST(Random, NameKeysAreStable) {
    // FNV-1a's published values: caches and runs depend on them.
    EXPECT_EQ(name_key(""), 0xCBF29CE484222325u);
    EXPECT_EQ(name_key("a"), 0xAF63DC4C8601EC8Cu);
    EXPECT_EQ(name_key("foobar"), 0x85944171F73967E8u);
}

}  // namespace
}  // namespace matrix
