#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "matrix/media/image.h"
#include "media_fixtures.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::media {
namespace {

using test::expect_equal;
using test::expect_error;
using test::TempDirectory;

TEST(Image, PngIsWrittenAndReadBackInRgbOrder) {
    const TempDirectory directory;
    const at::Tensor image = at::randint(0, 256, {11, 7, 3}, at::kByte);
    const auto path = directory.path() / "new" / "image.png";
    write_png(path, image);
    expect_equal(read_image(path), image, "image");
    EXPECT_EQ(mask_size(path).width_px, 7);
    EXPECT_EQ(mask_size(path).height_px, 11);
}

TEST(Image, GreyIsReadAsThreeEqualChannels) {
    const TempDirectory directory;
    const at::Tensor image = at::randint(0, 256, {5, 6}, at::kByte);
    write_png(directory.path() / "grey.png", image);
    expect_equal(read_image(directory.path() / "grey.png"), image.unsqueeze(2).repeat({1, 1, 3}),
                 "grey");
}

TEST(Image, ViewsAreWrittenAsTheyLook) {
    const TempDirectory directory;
    const at::Tensor image = at::randint(0, 256, {8, 10, 3}, at::kByte);
    const at::Tensor part = image.slice(0, 1, 8, 2).slice(1, 2, 9).transpose(0, 1);
    write_png(directory.path() / "part.png", part);
    expect_equal(read_image(directory.path() / "part.png"), part.contiguous(), "part");
}

TEST(Image, BadFilesAreNamed) {
    const TempDirectory directory;
    const auto path = directory.path() / "image.png";
    expect_error([&] { (void)read_image(path); }, {path.string(), "no such image"});
    expect_error([&] { (void)read_image(directory.path()); },
                 {directory.path().string(), "not a file"});
    for (const std::string& bytes :
         {std::string(), std::string(300, 'x'), bytes_of(fixture("h264.mp4"))}) {
        expect_error([&] { (void)read_image(write_bytes(path, bytes)); },
                     {path.string(), "not an image"});
    }
    EXPECT_THROW(write_png(path, at::zeros({4, 4, 3})), c10::Error);
    EXPECT_THROW(write_png(path, at::zeros({4, 4, 4}, at::kByte)), c10::Error);
}

}  // namespace
}  // namespace matrix::media
