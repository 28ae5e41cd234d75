#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "matrix/core/error.h"
#include "matrix/tensor_io/weights.h"
#include "models/vae/reference.h"

namespace matrix::models {
namespace {

using ::testing::AllOf;
using testing::expected;
using ::testing::HasSubstr;
using testing::make_encoder;
using testing::relative_error;
using ::testing::ThrowsMessage;
using testing::uniform;

// Float32 sums in another order than the reference's kernels; measured 1e-6 and below.
constexpr double kTolerance = 1e-5;

struct Case {
    const char* name;
    const char* config;
    std::vector<std::int64_t> video;
    bool tiling = false;
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << c.name;
}

class VaeReference : public ::testing::TestWithParam<Case> {};

TEST_P(VaeReference, HasTheMomentsOfTheReference) {
    const Case& c = GetParam();
    const at::Tensor video = uniform(std::string("video.") + c.name, c.video);
    const at::Tensor moments = make_encoder(c.config).encode(video, c.tiling);
    EXPECT_LE(relative_error(moments, expected(c.name)), kTolerance);
    EXPECT_TRUE(moments.is_contiguous());
}

INSTANTIATE_TEST_SUITE_P(Frames, VaeReference,
                         ::testing::Values(Case{"frames_1", "tiny", {1, 3, 1, 24, 40}},
                                           Case{"frames_2", "tiny", {1, 3, 2, 24, 40}},
                                           Case{"frames_3", "tiny", {1, 3, 3, 24, 40}},
                                           Case{"frames_5", "tiny", {1, 3, 5, 24, 40}},
                                           Case{"frames_8", "tiny", {1, 3, 8, 24, 40}},
                                           Case{"frames_9", "tiny", {1, 3, 9, 24, 40}},
                                           Case{"frames_13", "tiny", {1, 3, 13, 24, 40}},
                                           Case{"frames_16", "tiny", {1, 3, 16, 24, 40}},
                                           Case{"frames_17", "tiny", {1, 3, 17, 24, 40}},
                                           Case{"frames_24", "tiny", {1, 3, 24, 24, 40}},
                                           Case{"frames_25", "tiny", {1, 3, 25, 24, 40}},
                                           Case{"frames_49", "tiny", {1, 3, 49, 24, 40}}));

INSTANTIATE_TEST_SUITE_P(Variants, VaeReference,
                         ::testing::Values(Case{"batch", "tiny", {2, 3, 9, 8, 24}},
                                           Case{"other", "other", {1, 3, 10, 20, 12}},
                                           Case{"slow", "slow", {1, 3, 17, 16, 16}}));

INSTANTIATE_TEST_SUITE_P(
    Tiled, VaeReference,
    ::testing::Values(Case{"tiled", "tiny", {1, 3, 5, 136, 144}, true},
                      Case{"tiled_width_only", "tiny", {2, 3, 2, 88, 88}, true},
                      Case{"tiled_not_needed", "tiny", {1, 3, 1, 96, 80}, true},
                      Case{"tiled_odd", "odd_tiles", {1, 3, 9, 80, 88}, true}));

TEST(VaeEncoder, IsAsNearToFloat32InBfloat16AsTheReference) {
    const at::Tensor video = uniform("video.bfloat16", {8, 3, 9, 24, 40});
    tensor_io::GeneratedWeights weights([](const std::string& key, at::IntArrayRef shape) {
        return testing::weight(key, shape).to(at::kBFloat16);
    });
    const VaeEncoder encoder(testing::fixture_config("tiny"), weights);
    const at::Tensor moments = encoder.encode(video);
    ASSERT_EQ(moments.scalar_type(), at::kBFloat16);
    const at::Tensor exact = expected("bfloat16.exact");
    const auto distance = [&](const at::Tensor& x) {
        return (x.to(at::kFloat) - exact).square().mean().sqrt().item<double>();
    };
    // Both round after the same operations; sums in another order decide single roundings
    // otherwise, which moves one clip's distance by 10 % either way and the mean of eight by 4 %.
    EXPECT_LE(distance(moments), 1.1 * distance(expected("bfloat16")));
}

TEST(VaeEncoder, NeverLooksAhead) {
    const VaeEncoder encoder = make_encoder("tiny");
    const at::Tensor video = uniform("video", {1, 3, 25, 16, 24});
    const at::Tensor whole = encoder.encode(video);
    // 25 frames run as 9, 8, 8 and 17 as 9, 8: the same chunks.
    const at::Tensor start = encoder.encode(video.narrow(2, 0, 17));
    EXPECT_TRUE(at::equal(whole.narrow(2, 0, 5), start));
    // A later chunk does see what the convolutions carried over.
    const at::Tensor later = encoder.encode(video.narrow(2, 17, 8));
    EXPECT_GT(relative_error(whole.narrow(2, 5, 2), later), 0.01);
}

TEST(VaeEncoder, KeepsSamplesApart) {
    const VaeEncoder encoder = make_encoder("tiny");
    const at::Tensor video = uniform("video", {3, 3, 9, 16, 16});
    const at::Tensor moments = encoder.encode(video);
    for (std::int64_t i = 0; i < 3; ++i) {
        EXPECT_TRUE(at::equal(moments.narrow(0, i, 1), encoder.encode(video.narrow(0, i, 1))));
    }
}

TEST(VaeEncoder, TakesAnyFloatingDtypeAndStrides) {
    const VaeEncoder encoder = make_encoder("tiny");
    const at::Tensor video = uniform("video", {1, 3, 5, 16, 24});
    const at::Tensor moments = encoder.encode(video);
    EXPECT_TRUE(at::equal(encoder.encode(video.to(at::kDouble)), moments));
    const at::Tensor frames_last =
        video.permute({0, 1, 3, 4, 2}).contiguous().permute({0, 1, 4, 2, 3});
    EXPECT_TRUE(at::equal(encoder.encode(frames_last), moments));
    EXPECT_EQ(encoder.encode(video.to(at::kHalf)).scalar_type(), at::kFloat);
}

TEST(VaeEncoder, LeavesTheVideoAndTheGradientModeAlone) {
    const VaeEncoder encoder = make_encoder("tiny");
    at::Tensor video = uniform("video", {1, 3, 9, 16, 16});
    const at::Tensor before = video.clone();
    EXPECT_FALSE(encoder.encode(video.requires_grad_()).requires_grad());
    EXPECT_TRUE(at::equal(video.detach(), before));
    EXPECT_TRUE(at::GradMode::is_enabled());
}

TEST(VaeEncoder, EncodesFromSeveralThreads) {
    const VaeEncoder encoder = make_encoder("tiny");
    std::vector<at::Tensor> videos, alone, together(4);
    for (std::int64_t i = 0; i < 4; ++i) {
        videos.push_back(uniform("video." + std::to_string(i), {1, 3, 17, 16, 16}));
        alone.push_back(encoder.encode(videos.back()));
    }
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] { together[i] = encoder.encode(videos[i]); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_TRUE(at::equal(alone[i], together[i]));
    }
}

TEST(VaeEncoder, RefusesWrongVideos) {
    const VaeEncoder encoder = make_encoder("tiny");
    const auto encode = [&](at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
        return [&encoder, video = at::zeros(shape, dtype)] { (void)encoder.encode(video); };
    };
    for (const auto& shape : {std::vector<std::int64_t>{1, 3, 9, 20, 24},
                              {1, 3, 9, 24, 20},
                              {1, 3, 0, 24, 24},
                              {0, 3, 9, 24, 24},
                              {1, 3, 9, 0, 24}}) {
        EXPECT_THAT(encode(shape), ThrowsMessage<RunError>(
                                       AllOf(HasSubstr("video: "), HasSubstr("multiples of 8"))));
    }
    EXPECT_THAT(encode({1, 4, 9, 16, 16}), ThrowsMessage<RunError>(HasSubstr("video")));
    EXPECT_THAT(encode({3, 9, 16, 16}), ThrowsMessage<RunError>(HasSubstr("video")));
    EXPECT_THAT(encode({1, 3, 9, 16, 16}, at::kByte),
                ThrowsMessage<RunError>(HasSubstr("floating-point")));
}

TEST(VaeEncoder, RefusesTilesTooSmallToEncode) {
    VaeConfig config = testing::fixture_config("odd_tiles");
    config.sample_width = 84;  // tiles of 42 columns at 0, 33 and 66: 6 are left of 72
    const VaeEncoder encoder = make_encoder(config);
    EXPECT_THAT(
        [&] {
            (void)encoder.encode(at::zeros({1, 3, 1, 16, 72}), true);
        },
        ThrowsMessage<RunError>(AllOf(HasSubstr("width of 72"), HasSubstr("without tiling"))));
    config.sample_height = 2;
    const VaeEncoder single_row = make_encoder(config);
    EXPECT_THAT(
        [&] {
            (void)single_row.encode(at::zeros({1, 3, 1, 16, 16}), true);
        },
        ThrowsMessage<RunError>(HasSubstr("height of 16")));
}

}  // namespace
}  // namespace matrix::models
