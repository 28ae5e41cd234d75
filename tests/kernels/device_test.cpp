// On a GPU, where there is one: kernels and attention there against the CPU's, which other tests
// hold against definitions. Empty in a program that is built without MATRIX_WITH_CUDA.

#ifdef MATRIX_WITH_CUDA

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gradients.h"
#include "kernels/attention_choice.h"
#include "matrix/kernels/adamw.h"
#include "matrix/kernels/feed_forward.h"
#include "matrix/kernels/fp8.h"
#include "matrix/kernels/mask_loss.h"
#include "matrix/kernels/modulation.h"
#include "matrix/kernels/rotary.h"

namespace matrix::kernels {
namespace {

using Tensors = std::vector<at::Tensor>;
using Of = std::function<at::Tensor(const Tensors& x, const Tensors& constants)>;

class OnGpu : public testing::TestWithParam<at::ScalarType> {
protected:
    void SetUp() override {
        if (!at::globalContext().hasCUDA()) {
            GTEST_SKIP() << "no GPU";
        }
        at::manual_seed(8);
        testing::internal::CaptureStderr();
    }
    void TearDown() override {
        if (at::globalContext().hasCUDA()) {
            const std::string text = testing::internal::GetCapturedStderr();
            EXPECT_EQ(text.find("is not used"), std::string::npos) << text;
        }
    }

    [[nodiscard]] static Tensors on(at::Device device, const Tensors& all) {
        Tensors moved;
        for (const at::Tensor& t : all) {
            moved.push_back(t.to(device));
        }
        return moved;
    }
    /// Value and gradients of x, in the dtype of the case: both round each result once.
    void expect_like_cpu(const Of& of, const Tensors& x, const Tensors& constants) const {
        const double tolerance = GetParam() == at::kFloat ? 2e-5 : 1e-2;
        std::vector<test::Differentiated> results;
        at::Tensor cotangent;
        for (const at::Device device : {at::Device(at::kCPU), at::Device(at::kCUDA, 0)}) {
            Tensors values = on(device, x), rest = on(device, constants);
            for (Tensors* all : {&values, &rest}) {
                for (at::Tensor& t : *all) {
                    t = t.is_complex() ? t : t.to(GetParam());
                }
            }
            if (!cotangent.defined()) {
                cotangent = at::randn_like(of(values, rest));
            }
            results.push_back(
                test::differentiate([&](const Tensors& leaves) { return of(leaves, rest); }, values,
                                    cotangent.to(device)));
        }
        test::expect_close(results[1].output, results[0].output, tolerance, "output");
        for (std::size_t i = 0; i < x.size(); ++i) {
            test::expect_close(results[1].grads[i], results[0].grads[i], tolerance,
                               "gradient " + std::to_string(i));
        }
    }
};

RowValues rows(const at::Tensor& both) {
    return {both.narrow(1, 0, 1), both.narrow(1, 1, 1)};
}

// The width of CogVideoX-5B, and one of no vectors.
TEST_P(OnGpu, Modulation) {
    for (const std::int64_t width : {3072, 67}) {
        const auto values = [&] { return at::randn({2, 2, width}); };
        expect_like_cpu(
            [](const Tensors& x, const Tensors& c) {
                return layer_norm_modulate(x[0], c[0], c[1], 1e-5, 40, rows(c[2]), rows(c[3]));
            },
            {at::randn({2, 101, width}) + 1},
            {at::randn({width}), at::randn({width}), values(), values()});
        expect_like_cpu([](const Tensors& x,
                           const Tensors& c) { return gated_residual(x[0], x[1], 40, rows(c[0])); },
                        {at::randn({2, 101, width}), at::randn({2, 101, width})}, {values()});
    }
}

TEST_P(OnGpu, NormRotate) {
    for (const std::int64_t d : {64, 38}) {
        const at::Tensor angle = at::randn({91, 1, d / 2});
        expect_like_cpu(
            [&](const Tensors& x, const Tensors& c) {
                const at::Tensor heads = x[0].narrow(2, 3 * d, 3 * d).unflatten(2, {3, d});
                return norm_rotate(heads, c[0], c[1], 1e-6, c[2], 10).transpose(1, 2);
            },
            {at::randn({2, 101, 9 * d})},
            {at::randn({d}), at::randn({d}), at::complex(angle.cos(), angle.sin())});
    }
}

TEST_P(OnGpu, FeedForward) {
    for (const auto mode : {FeedForwardMode::kKeepHidden, FeedForwardMode::kRecompute}) {
        expect_like_cpu(
            [&](const Tensors& x, const Tensors& c) {
                return feed_forward(x[0], {c[0], c[1], {}, {}, 1.0, {}},
                                    {c[2], c[3], {}, {}, 1.0, {}}, mode);
            },
            {at::randn({1, 700, 64})},
            {at::randn({256, 64}) / 8, at::randn({256}), at::randn({64, 256}) / 16,
             at::randn({64})});
    }
}

// An odd number of rows, and widths that a GPU takes and that it does not.
TEST_P(OnGpu, Fp8Product) {
    const at::Device gpu(at::kCUDA, 0);
    for (const std::int64_t width : {96, 40}) {
        const at::Tensor x = at::randn({333, width}).to(GetParam()),
                         w = at::randn({160, width}).to(GetParam()),
                         bias = at::randn({160}).to(GetParam());
        std::vector<at::Tensor> results;
        for (const at::Device device : {at::Device(at::kCPU), gpu}) {
            results.push_back(at::empty({333, 160}, x.options().device(device)));
            fp8_product_out(results.back(), fp8_rows(x.to(device)), fp8_rows(w.to(device)),
                            bias.to(device));
        }
        test::expect_close(results[1], results[0], GetParam() == at::kFloat ? 2e-5 : 1e-2,
                           "product");
    }
}

// Each candidate alone, so that it is the one or an error.
TEST_P(OnGpu, EveryAttentionAgreesWithMath) {
    const at::Device gpu(at::kCUDA, 0);
    for (const std::int64_t head_dim : {64, 128, 10}) {
        const at::Tensor q = at::randn({1, 2, 100, head_dim}).to(gpu, GetParam());
        for (const AttentionBackend& backend : cuda_attentions(GetParam())) {
            AttentionChoice choice({backend}, {});
            EXPECT_NO_THROW((void)choice.of(q, q, q, 0.125)) << backend.name << ' ' << head_dim;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(InEachDtype, OnGpu, testing::Values(at::kFloat, at::kBFloat16));

class OnGpuInFloat32 : public OnGpu {};

TEST_P(OnGpuInFloat32, MaskLoss) {
    const at::Device gpu(at::kCUDA, 0);
    const at::Tensor rows = at::randn({3, 4, 5, 560}) * 4, cells = at::randn({3, 4, 5, 35, 1024});
    const auto moved = [&](const at::Tensor& part) { return part.defined() ? part.to(gpu) : part; };
    const auto slopes = [&](at::Device device) {
        const at::Tensor s = at::ones({3}, at::kDouble).to(device);
        return MaskSlopes{s, s * 2, s * 3, s * 4, s * 5};
    };
    for (const CellLogits& here : {CellLogits{rows, {}, 4}, CellLogits{rows, cells, 4},
                                   CellLogits{{}, cells.narrow(4, 0, 512), 2}}) {
        const CellLogits there{moved(here.rows), moved(here.cells), here.frames};
        const at::Tensor y = at::randn(pixel_logits(here).sizes()).gt(1);
        const MaskSums sums = mask_sums(here, y), of_gpu = mask_sums(there, y.to(gpu));
        for (const auto sum : {&MaskSums::positives, &MaskSums::positive_bce, &MaskSums::all_bce,
                               &MaskSums::overlap, &MaskSums::foreground, &MaskSums::squares}) {
            test::expect_close(of_gpu.*sum, sums.*sum, 1e-6, "sum");
        }
        const CellLogits wanted = mask_gradient(here, y, slopes(at::kCPU)),
                         actual = mask_gradient(there, y.to(gpu), slopes(gpu));
        for (const auto part : {&CellLogits::rows, &CellLogits::cells}) {
            if ((wanted.*part).defined()) {
                test::expect_close(actual.*part, wanted.*part, 1e-6, "gradient");
            }
        }
    }
}

TEST_P(OnGpuInFloat32, AdamW) {
    const Tensors start = {at::randn({40'000}), at::randn({40'000}), at::randn({40'000}),
                           at::rand({40'000})};
    Tensors results;
    for (const at::Device device : {at::Device(at::kCPU), at::Device(at::kCUDA, 0)}) {
        const auto copy = [&](std::size_t i) {
            return Tensors{start[i].to(device, at::kFloat, false, true)};
        };
        const auto scalar = [&](double value) {
            return at::full({}, value, at::TensorOptions(at::kFloat).device(device));
        };
        const AdamWGroup group{0.1, copy(0), copy(1), copy(2), copy(3), {scalar(4)}};
        adamw_({group}, {0.9, 0.95, 1e-8, 0.1}, scalar(0.5), scalar(0));
        results.push_back(group.values[0]);
    }
    test::expect_close(results[1], results[0], 1e-6, "values");
}

INSTANTIATE_TEST_SUITE_P(Alone, OnGpuInFloat32, testing::Values(at::kFloat));

}  // namespace
}  // namespace matrix::kernels

#endif
