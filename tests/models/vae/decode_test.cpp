#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "matrix/tensor_io/weights.h"
#include "models/vae/reference.h"
#include "support/errors.h"

namespace matrix::models {
namespace {

using testing::expected_video;
using testing::make_decoder;
using testing::relative_error;
using testing::uniform;

// Float32 sums in another order than the reference's kernels.
constexpr double kTolerance = 1e-5;

struct Case {
    const char* name;
    const char* config;
    std::vector<std::int64_t> latents;
    bool tiling = false;
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << c.name;
}

class VaeDecoderReference : public ::testing::TestWithParam<Case> {};

TEST_P(VaeDecoderReference, HasTheVideoOfTheReference) {
    const Case& c = GetParam();
    const at::Tensor video = make_decoder(c.config).decode(uniform(c.name, c.latents), c.tiling);
    EXPECT_LE(relative_error(video, expected_video(c.name)), kTolerance);
    EXPECT_TRUE(video.is_contiguous());
}

INSTANTIATE_TEST_SUITE_P(Frames, VaeDecoderReference,
                         ::testing::Values(Case{"latents_1", "tiny", {1, 4, 1, 1, 2}},
                                           Case{"latents_2", "tiny", {1, 4, 2, 1, 2}},
                                           Case{"latents_3", "tiny", {1, 4, 3, 1, 2}},
                                           Case{"latents_4", "tiny", {1, 4, 4, 1, 2}},
                                           Case{"latents_5", "tiny", {1, 4, 5, 1, 2}},
                                           Case{"latents_13", "tiny", {1, 4, 13, 1, 2}}));

INSTANTIATE_TEST_SUITE_P(
    Variants, VaeDecoderReference,
    ::testing::Values(Case{"latents_batch", "tiny", {2, 4, 3, 2, 1}},
                      Case{"latents_other", "other", {1, 4, 5, 3, 2}},
                      Case{"latents_slow", "slow", {1, 4, 3, 1, 1}},
                      Case{"latents_tiled", "odd_tiles", {1, 4, 1, 7, 6}, true},
                      Case{"latents_tiled_not_needed", "tiny", {1, 4, 1, 3, 2}, true}));

TEST(VaeDecoder, RefusesWhatItCannotDecode) {
    const VaeDecoder decoder = make_decoder("tiny");
    const auto refuses = [&](const at::Tensor& latents, const std::string& message) {
        test::expect_error([&] { (void)decoder.decode(latents); }, {message});
    };
    refuses(at::zeros({1, 16, 3, 2, 2}), "latents: ");
    refuses(at::zeros({1, 4, 0, 2, 2}), "latents: [1, 4, 0, 2, 2] is empty");
    refuses(at::zeros({1, 4, 3, 2, 2}, at::kLong), "latents: expected a floating-point dtype");
}

TEST(VaeDecoder, ExpectsTheEncodersWeightsBesideIts) {
    class Counting final : public tensor_io::WeightSource {
    public:
        at::Tensor take(const std::string& key, at::IntArrayRef shape) override {
            EXPECT_TRUE(key.starts_with("decoder.")) << key;
            return testing::weight(key, shape);
        }
        void expect(const std::string& key, at::IntArrayRef) override {
            EXPECT_TRUE(key.starts_with("encoder.")) << key;
            ++num_expected;
        }
        bool has(const std::string&) const override { return true; }
        void allow_copy(const std::string&, const std::string&) override {}
        void finish() override { finished = true; }
        int num_expected = 0;
        bool finished = false;
    } weights;
    (void)VaeDecoder(testing::fixture_config("tiny"), weights);
    EXPECT_GT(weights.num_expected, 20);
    EXPECT_TRUE(weights.finished);
}

}  // namespace
}  // namespace matrix::models
