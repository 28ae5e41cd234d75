#include "matrix/eval/mask_metrics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "matrix/tensor_io/safetensors.h"

namespace matrix::eval {
namespace {

/// [T, 40, 60] of squares [top, left, side]; side 0: nothing.
struct Square {
    std::int64_t top, left, side;
};
at::Tensor track_of(const std::vector<std::vector<Square>>& frames) {
    at::Tensor track = at::zeros({static_cast<std::int64_t>(frames.size()), 40, 60}, at::kByte);
    for (std::size_t t = 0; t < frames.size(); ++t) {
        for (const Square& s : frames[t]) {
            track[static_cast<std::int64_t>(t)]
                .slice(0, s.top, s.top + s.side)
                .slice(1, s.left, s.left + s.side)
                .fill_(1);
        }
    }
    return track;
}

TEST(TrackMetrics, AShapeThatOnlyMovesIsConsistent) {
    const TrackMetrics found =
        measure_track(track_of({{{4, 4, 8}}, {{9, 14, 8}}, {{9, 2, 8}}, {{30, 50, 8}}}));
    EXPECT_EQ(found.num_frames, 4);
    EXPECT_EQ(found.num_visible, 4);
    EXPECT_DOUBLE_EQ(found.consistency.value(), 1.0);
    EXPECT_DOUBLE_EQ(found.area_change.value(), 0.0);
    EXPECT_EQ(found.num_vanishings + found.num_duplications, 0);
}

TEST(TrackMetrics, LeavingTheFrameIsNoChangeOfShape) {
    // Of 8 columns, 4 stay in the picture: what left it does not count, though the centroid moves
    // by 2 less.
    const at::Tensor track = track_of({{{10, 40, 8}}, {{10, 56, 8}}});
    const TrackMetrics found = measure_track(track);
    // Centroids 43.5 and 57.5: moved by 14, so columns 54..59 of 54..61 meet 56..59.
    EXPECT_DOUBLE_EQ(found.consistency.value(), 4.0 / 6.0);
    EXPECT_DOUBLE_EQ(found.area_change.value(), std::log(2.0));
}

TEST(TrackMetrics, AGrowingSquareByHand) {
    // 6 x 6 centred in 8 x 8, then the same again.
    const TrackMetrics found =
        measure_track(track_of({{{11, 11, 6}}, {{10, 10, 8}}, {{10, 10, 8}}}));
    EXPECT_DOUBLE_EQ(found.consistency.value(), (36.0 / 64.0 + 1.0) / 2);
    EXPECT_DOUBLE_EQ(found.area_change.value(), std::log(64.0 / 36.0) / 2);
}

TEST(TrackMetrics, Vanishing) {
    const std::vector<Square> shown = {{4, 4, 8}}, nothing;
    TrackMetrics found =
        measure_track(track_of({nothing, shown, nothing, nothing, shown, shown, nothing}));
    EXPECT_EQ(found.num_visible, 3);
    EXPECT_EQ(found.num_vanishings, 2);
    EXPECT_EQ(found.num_vanished_frames, 3);
    EXPECT_TRUE(found.ends_vanished);
    EXPECT_DOUBLE_EQ(found.consistency.value(), 1.0);  // one pair of neighbours

    found = measure_track(track_of({nothing, nothing}));
    EXPECT_EQ(found.num_vanishings, 0);
    EXPECT_FALSE(found.ends_vanished || found.consistency || found.area_change);

    // A speck shows nothing: one pixel of 2400 is below a share of 1e-3.
    found = measure_track(track_of({shown, {{4, 4, 1}}}), {.empty = 1e-3});
    EXPECT_EQ(found.num_vanished_frames, 1);
    EXPECT_EQ(measure_track(track_of({shown, {{4, 4, 1}}})).num_vanished_frames, 0);
}

TEST(TrackMetrics, Duplication) {
    const std::vector<Square> one = {{4, 4, 8}}, two = {{4, 4, 8}, {20, 30, 8}};
    TrackMetrics found = measure_track(track_of({one, two, two, one, two}));
    EXPECT_EQ(found.num_duplications, 2);
    EXPECT_EQ(found.num_duplicated_frames, 3);
    // What has two pieces from the start is no double.
    found = measure_track(track_of({two, two, one, two}));
    EXPECT_EQ(found.num_duplications, 0);
    // Vanishing ends a stretch.
    found = measure_track(track_of({one, two, {}, two}));
    EXPECT_EQ(found.num_duplications, 2);
}

TEST(Pieces, SmallOnesAndNearOnesAreNone) {
    // Shorter side 40: the gap is 2 pixels, so the mask grows by one.
    const auto pieces = [](const std::vector<Square>& squares) {
        return count_pieces(track_of({squares})[0].contiguous());
    };
    EXPECT_EQ(pieces({}), 0);
    EXPECT_EQ(pieces({{4, 4, 8}}), 1);
    EXPECT_EQ(pieces({{4, 4, 8}, {4, 14, 8}}), 1);   // two columns between
    EXPECT_EQ(pieces({{4, 4, 8}, {4, 15, 8}}), 2);   // three
    EXPECT_EQ(pieces({{4, 4, 8}, {14, 14, 8}}), 1);  // corner to corner
    EXPECT_EQ(pieces({{4, 4, 8}, {15, 15, 8}}), 2);
    EXPECT_EQ(pieces({{4, 4, 8}, {20, 30, 4}}), 2);  // 16 of 80: a fifth
    EXPECT_EQ(pieces({{4, 4, 8}, {20, 30, 3}}), 1);
    EXPECT_EQ(pieces({{0, 0, 8}, {32, 52, 8}, {0, 52, 8}, {32, 0, 8}}), 4);
}

TEST(Pieces, GrowingEqualsTheNeighbourhoodInFull) {
    // With the gap as wide as the picture everything is one piece; with none, every component.
    const at::Tensor mask = track_of({{{0, 0, 4}, {36, 56, 4}, {20, 30, 4}}})[0].contiguous();
    EXPECT_EQ(count_pieces(mask, {.gap = 3.0}), 1);
    EXPECT_EQ(count_pieces(mask, {.gap = 0.0}), 3);
}

TEST(Fidelity, OfEqualAndOppositePictures) {
    const at::Tensor a = at::randint(0, 256, {20, 30, 3}, at::kByte);
    const Fidelity same = compare_pictures(a, a);
    EXPECT_DOUBLE_EQ(same.psnr_db, 100.0);
    EXPECT_NEAR(same.ssim, 1.0, 1e-12);

    const at::Tensor black = at::zeros({12, 11, 3}, at::kByte),
                     grey = at::full({12, 11, 3}, 10, at::kByte);
    const Fidelity flat = compare_pictures(black, grey);
    EXPECT_NEAR(flat.psnr_db, 20 * std::log10(25.5), 1e-12);
    EXPECT_NEAR(flat.ssim, 6.5025 / (100 + 6.5025), 1e-12);  // C1 / (10^2 + C1), no variance
}

TEST(Fidelity, EqualsAnIndependentImplementation) {
    const tensor_io::SafetensorsFile file(std::string(MATRIX_FIXTURES) + "/fidelity.safetensors");
    for (const char* name : {"noisy", "blurred", "shifted"}) {
        const Fidelity found =
            compare_pictures(file.tensor("picture").contiguous(), file.tensor(name).contiguous());
        const at::Tensor expected = file.tensor(std::string(name) + ".psnr_ssim");
        EXPECT_NEAR(found.psnr_db, expected[0].item<double>(), 1e-9) << name;
        EXPECT_NEAR(found.ssim, expected[1].item<double>(), 1e-9) << name;
    }
}

}  // namespace
}  // namespace matrix::eval
