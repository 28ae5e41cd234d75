#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "matrix/media/image.h"
#include "matrix/tensor_io/safetensors.h"
#include "media_fixtures.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::media {
namespace {

namespace fs = std::filesystem;
using test::expect_equal;
using test::expect_error;
using test::TempDirectory;

TEST(MaskPng, EveryKindGivesItsForeground) {
    const tensor_io::SafetensorsFile expected(fixture("masks.safetensors"));
    ASSERT_EQ(expected.keys().size(), 11u);
    for (const std::string& name : expected.keys()) {
        expect_equal(read_mask(fixture("masks/" + name + ".png")), expected.tensor(name), name);
    }
}

TEST(MaskPng, SixteenBitsAreRefused) {
    for (const char* name : {"grey16.png", "rgb16.png"}) {
        expect_error([&] { (void)read_mask(fixture(std::string("masks/") + name)); },
                     {name, "16 bits"});
        expect_error([&] { (void)mask_size(fixture(std::string("masks/") + name)); },
                     {name, "16 bits"});
    }
}

TEST(MaskPng, IndicesOfAPaletteAndOfGrey) {
    const at::Tensor indices = read_indices(fixture("masks/palette4.png"));
    expect_equal(indices.ne(0).to(at::kByte), read_mask(fixture("masks/palette4.png")), "palette");
    EXPECT_GT(indices.max().item<int>(), 1);

    const TempDirectory directory;
    const at::Tensor grey = at::randint(0, 4, {7, 9}, at::kByte);
    write_png(directory.path() / "grey.png", grey);
    expect_equal(read_indices(directory.path() / "grey.png"), grey, "grey");
    write_png(directory.path() / "rgb.png", at::zeros({2, 2, 3}, at::kByte));
    expect_error([&] { (void)read_indices(directory.path() / "rgb.png"); },
                 {"rgb.png", "colours", "palette"});
}

TEST(MaskPng, AlmostEmptyOnesOfAVideosSize) {
    EXPECT_EQ(read_mask(fixture("masks/wide_empty1.png")).count_nonzero().item<int>(), 0);
    for (const char* name : {"wide_grey1", "wide_palette2", "wide_palette4"}) {
        const fs::path path = fixture(std::string("masks/") + name + ".png");
        const at::Tensor mask = read_mask(path);
        EXPECT_EQ(mask.sum().item<int>(), 40 * 40) << name;
        EXPECT_EQ(mask.slice(0, 100, 140).slice(1, 200, 240).sum().item<int>(), 40 * 40) << name;
        EXPECT_EQ(read_image(path).numel(), 3 * mask.numel()) << name;
    }
}

TEST(MaskPng, SizeComesFromTheHeader) {
    const ImageSize size = mask_size(fixture("masks/palette4.png"));
    EXPECT_EQ(size.width_px, 19);
    EXPECT_EQ(size.height_px, 13);
}

TEST(MaskPng, WrittenGreyIsReadBack) {
    const TempDirectory directory;
    const at::Tensor mask = at::randint(0, 2, {7, 9}, at::kByte);
    write_png(directory.path() / "mask.png", mask * 255);
    expect_equal(read_mask(directory.path() / "mask.png"), mask, "mask");
}

TEST(MaskPng, BadFilesAreNamed) {
    const TempDirectory directory;
    const fs::path path = directory.path() / "mask.png";
    expect_error([&] { (void)read_mask(path); }, {path.string(), "no such"});
    expect_error([&] { (void)read_mask(directory.path()); },
                 {directory.path().string(), "not a file"});
    for (const char* bytes : {"", "\x89PNG", "a text of more than eight bytes"}) {
        expect_error([&] { (void)read_mask(write_bytes(path, bytes)); },
                     {path.string(), "not a PNG"});
    }
}

TEST(MaskPng, EveryCutAndEveryDamagedByteIsAnErrorOrAMask) {
    const TempDirectory directory;
    const fs::path path = directory.path() / "mask.png";
    const std::string bytes = bytes_of(fixture("masks/palette2.png"));
    for (std::size_t kept = 8; kept < bytes.size(); ++kept) {
        expect_error([&] { (void)read_mask(write_bytes(path, bytes.substr(0, kept))); },
                     {path.string(), "damaged PNG"});
    }
    for (std::size_t at = 8; at < bytes.size(); ++at) {
        std::string damaged = bytes;
        damaged[at] = static_cast<char>(damaged[at] ^ 0x21);
        write_bytes(path, damaged);
        try {
            EXPECT_EQ(read_mask(path).numel(), 13 * 19);
        } catch (const RunError& error) {
            EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos);
        }
    }
}

TEST(MaskPng, AHugeHeaderCostsNothing) {
    const TempDirectory directory;
    std::string bytes = bytes_of(fixture("masks/grey8.png"));
    // Width 2^31 - 1; libpng notices before the checksum does.
    bytes.replace(16, 4, "\x7f\xff\xff\xff");
    const fs::path path = write_bytes(directory.path() / "mask.png", bytes);
    expect_error([&] { (void)read_mask(path); }, {path.string(), "damaged PNG"});
    expect_error([&] { (void)mask_size(path); }, {path.string(), "damaged PNG"});
}

}  // namespace
}  // namespace matrix::media
