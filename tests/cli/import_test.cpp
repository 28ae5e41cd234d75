#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/import/frame_files.h"
#include "cli/import/segmentation.h"
#include "support/errors.h"
#include "support/temp_directory.h"

namespace matrix::imports {
namespace {

using nlohmann::json;
using test::expect_error;
using testing::ElementsAre;

TEST(RunLengths, CompressedByHand) {
    // 2, 3, 1 stand as they are; 1 is 2 less than the run before the last: 11110, the sign bit set.
    EXPECT_THAT(decompress_runs("231N"), ElementsAre(2, 3, 1, 1));
    // 100 = 00011 00100: the low five bits first, with "goes on" (4 + 32), then 3. 16 alone would
    // be negative.
    EXPECT_THAT(decompress_runs("T3`0"), ElementsAre(100, 16));
    EXPECT_THAT(decompress_runs(""), ElementsAre());
    for (const char* text : {"T", "~", " ", "2T", "oooooooo0"}) {
        expect_error([&] { (void)decompress_runs(text); }, {"no compressed string"});
    }
}

TEST(RunLengths, GoDownTheColumns) {
    const Mask mask = decode_runs({2, 3, 1}, 2, 3);
    EXPECT_THAT(mask.pixels, ElementsAre(0, 1, 1, 0, 1, 0));
    EXPECT_THAT(decode_runs({0, 2, 0, 1, 1}, 1, 4).pixels, ElementsAre(1, 1, 1, 0));
    expect_error([&] { (void)decode_runs({2, 3}, 2, 3); }, {"cover 5 of 3 x 2"});
    expect_error([&] { (void)decode_runs({2, 5}, 2, 3); }, {"do not fit"});
    expect_error([&] { (void)decode_runs({2, -1, 5}, 2, 3); }, {"do not fit"});
}

TEST(Polygons, HoldThePixelsWhoseCentresTheyHold) {
    const auto pixels = [](const char* text) {
        return read_segmentation(json::parse(text), 3, 4).pixels;
    };
    EXPECT_THAT(pixels("[[1, 1, 3, 1, 3, 3, 1, 3]]"),
                ElementsAre(0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0));
    // A triangle on the main diagonal: the centres on its edge belong to the side where it begins.
    EXPECT_THAT(pixels("[[0, 0, 3, 3, 0, 3]]"), ElementsAre(0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0));
    // Two polygons, one beyond the picture.
    EXPECT_THAT(pixels("[[0, 0, 1, 0, 1, 1, 0, 1], [3, 2, 9, 2, 9, 9, 3, 9]]"),
                ElementsAre(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1));
    EXPECT_THAT(pixels("null"), testing::Each(0));
    for (const char* text : {"[[1, 2, 3]]", "[[1, 2, 3, 4, 5, \"x\"]]", "[3]"}) {
        expect_error([&] { (void)pixels(text); }, {"polygon"});
    }
}

TEST(FrameFiles, MatchByNumberOrInOrder) {
    Pictures pictures;
    pictures.num_frames = 3;
    const auto files = [](std::vector<std::int64_t> numbers) {
        NumberedFiles found;
        for (const std::int64_t number : numbers) {
            found[number] = std::to_string(number) + ".png";
        }
        return found;
    };
    const auto matched = [&](std::vector<std::int64_t> numbers) {
        std::string names;
        for (const auto& file : one_a_frame(files(std::move(numbers)), pictures, "here")) {
            names += file.stem().string() + " ";
        }
        return names;
    };
    EXPECT_EQ(matched({0, 1, 2}), "0 1 2 ");
    EXPECT_EQ(matched({7, 8, 9}), "7 8 9 ");
    expect_error([&] { (void)matched({1, 3}); }, {"here", "no mask for frames 2", "3 frames"});
    expect_error([&] { (void)matched({0, 2}); }, {"no mask for frames 1"});
    expect_error([&] { (void)matched({0, 1, 2, 3}); }, {"masks 3 that belong to no frame"});
    expect_error([&] { (void)matched({}); }, {"frames 0, 1, 2"});

    pictures.numbers = {0, 5, 10};  // every fifth frame
    EXPECT_EQ(matched({0, 5, 10}), "0 5 10 ");
    expect_error([&] { (void)matched({0, 5, 7}); }, {"frames 10", "masks 7"});
    EXPECT_EQ(some_numbers({1, 2, 3, 4, 5, 6, 7}), "1, 2, 3, 4, 5 and 2 more");
}

TEST(FrameFiles, AreNumberedByTheirNames) {
    const test::TempDirectory directory;
    const auto touch = [&](const char* name) { std::ofstream(directory.path() / name) << ""; };
    for (const char* name : {"frame_010.PNG", "9.png", ".8.png", "notes.txt"}) {
        touch(name);
    }
    const NumberedFiles files = numbered_files(directory.path(), {".png"});
    ASSERT_EQ(files.size(), 2U);
    EXPECT_EQ(files.begin()->first, 9);
    touch("009.png");
    expect_error([&] { (void)numbered_files(directory.path(), {".png"}); },
                 {"has the number of", "9.png"});
    expect_error([&] { (void)numbered_files(directory.path() / "none", {".png"}); },
                 {"none", "cannot be read"});
}

}  // namespace
}  // namespace matrix::imports
