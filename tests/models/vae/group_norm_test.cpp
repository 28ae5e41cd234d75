#include "models/vae/group_norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "models/vae/reference.h"
#include "support/tensors.h"

namespace matrix::models {
namespace {

using testing::uniform;

/// Many positions, and channels whose means stand apart by many deviations.
TEST(VaeGroupNorm, IsRightForLargePictures) {
    const at::Tensor weight = uniform("weight", {4}), bias = uniform("bias", {4});
    for (const double apart : {0.0, 30.0}) {
        const at::Tensor x =
            uniform("x", {1, 4, 2, 480, 720}) + apart * uniform("mean", {1, 4, 1, 1, 1});
        const at::Tensor expected = at::group_norm(x.to(at::kDouble), 2, weight.to(at::kDouble),
                                                   bias.to(at::kDouble), 1e-6);
        for (const at::MemoryFormat format :
             {at::MemoryFormat::ChannelsLast3d, at::MemoryFormat::Contiguous}) {
            const at::Tensor y = vae::group_norm(x.contiguous(format), 2, weight, bias, 1e-6);
            EXPECT_TRUE(y.is_contiguous(format));
            EXPECT_EQ(y.scalar_type(), at::kFloat);
            test::expect_close(y, expected, 1e-6, "normalised");
        }
        const at::Tensor half = x.contiguous(at::MemoryFormat::ChannelsLast3d).to(at::kBFloat16);
        const at::Tensor y =
            vae::group_norm(half, 2, weight.to(at::kBFloat16), bias.to(at::kBFloat16), 1e-6);
        EXPECT_EQ(y.scalar_type(), at::kBFloat16);
        test::expect_close(
            y,
            at::group_norm(half.to(at::kDouble), 2, weight.to(at::kBFloat16).to(at::kDouble),
                           bias.to(at::kBFloat16).to(at::kDouble), 1e-6),
            4e-3, "normalised in bfloat16");
    }
}

}  // namespace
}  // namespace matrix::models
