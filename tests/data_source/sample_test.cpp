#include "matrix/data_source/sample.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "data_source/dataset.h"
#include "matrix/data_source/doctor.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace matrix::data_source {
namespace {

namespace fs = std::filesystem;
using test::Dataset;
using test::expect_equal;
using test::expect_error;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const text::T5Tokenizer& tokenizer() {
    static const text::T5Tokenizer instance(std::string(MATRIX_SOURCE_DIR) +
                                            "/assets/t5-tokenizer");
    return instance;
}

RawSample sample_of(const Dataset& data, std::size_t row = 0) {
    return load_sample(read_manifest(data.root()).rows[row], data.config(), tokenizer(), false);
}

std::vector<std::int64_t> set_columns(const at::Tensor& mask) {
    const at::Tensor set = mask.nonzero().squeeze(1).contiguous();
    return {set.const_data_ptr<std::int64_t>(), set.const_data_ptr<std::int64_t>() + set.numel()};
}

std::string row_with(const std::string& prompt, const std::string& interactions) {
    return R"({"video": "a.mp4", "prompt": ")" + prompt + R"(", "interactions": )" + interactions +
           "}\n";
}

TEST(Sample, HoldsEveryPartOfAClip) {
    const Dataset data;
    data.write_two_clips();
    const RawSample sample = sample_of(data);
    EXPECT_EQ(sample.name, "videos/a.mp4");
    EXPECT_EQ(sample.prompt, "A man lifts a box.");
    EXPECT_TRUE(sample.notes.empty());
    EXPECT_EQ(sample.video.sizes(), at::IntArrayRef({3, 5, 32, 48}));
    EXPECT_EQ(sample.video.scalar_type(), at::kFloat);
    for (std::int64_t i = 0; i < 5; ++i) {
        const double wanted = static_cast<double>(40 * i) / 255.0 * 2.0 - 1.0;
        // The codec is lossy: a few levels of 255.
        EXPECT_NEAR(sample.video[1][i][28][40].item<double>(), wanted, 0.04) << i;
        EXPECT_NEAR(sample.video[1][i][12][12].item<double>(), 1.0, 0.04) << i;
    }
    EXPECT_EQ(sample.input_ids.sizes(), at::IntArrayRef({226}));
    EXPECT_EQ(sample.token_mask.sizes(), at::IntArrayRef({1, 3, 226}));
    const auto encoding = tokenizer().encode(sample.prompt);
    const auto covers = [&](std::int64_t token, std::int64_t begin, std::int64_t end) {
        const text::Span span = encoding.spans[static_cast<std::size_t>(token)];
        return span.begin < end && begin < span.end;
    };
    for (std::int64_t token = 0; token < 226; ++token) {
        EXPECT_EQ(sample.token_mask[0][0][token].item<int>() != 0, covers(token, 2, 5)) << token;
        EXPECT_EQ(sample.token_mask[0][1][token].item<int>() != 0, covers(token, 14, 17)) << token;
        EXPECT_EQ(sample.token_mask[0][2][token].item<int>() != 0, covers(token, 6, 11)) << token;
    }
    at::Tensor masks = at::zeros({1, 2, 5, 32, 48}, at::kByte);
    masks[0][0].slice(1, 0, 16).slice(2, 0, 16).fill_(1);
    masks[0][1].slice(1, 16, 32).slice(2, 16, 48).fill_(1);
    expect_equal(sample.masks, masks, "masks");
    const at::Tensor cells = at::tensor({1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, at::kByte);
    expect_equal(sample.query_mask, cells.reshape({1, 2, 2, 3}), "query_mask");
    at::Tensor id_map = at::full({3, 32, 48}, -1.0F);
    id_map[0].slice(0, 0, 16).slice(1, 0, 16).fill_(1);    // ID 1: red
    id_map[1].slice(0, 16, 32).slice(1, 16, 48).fill_(1);  // ID 2: green
    expect_equal(sample.id_map, id_map, "id_map");
    EXPECT_TRUE(sample.has_masks);
}

TEST(Sample, OfAClipWithoutRolesOrMasks) {
    const Dataset data;
    data.write_two_clips();
    const RawSample sample = sample_of(data, 1);
    EXPECT_EQ(sample.token_mask.sizes(), at::IntArrayRef({0, 3, 226}));
    EXPECT_EQ(sample.masks.sizes(), at::IntArrayRef({0, 2, 5, 32, 48}));
    EXPECT_EQ(sample.query_mask.sizes(), at::IntArrayRef({0, 2, 2, 3}));
    EXPECT_FALSE(sample.has_masks);
    expect_equal(sample.id_map, at::full({3, 32, 48}, -1.0F), "id_map");
}

TEST(Sample, AnEmptyTrackTakesTheVerbOut) {
    const Dataset data;
    data.write_two_clips();
    data.write_masks("a/id2", 6, 0, 0, 0, 0);
    const RawSample sample = sample_of(data);
    EXPECT_FALSE(set_columns(sample.token_mask[0][0]).empty());
    EXPECT_FALSE(set_columns(sample.token_mask[0][1]).empty());
    EXPECT_TRUE(set_columns(sample.token_mask[0][2]).empty());
}

TEST(Sample, OnlyTheFramesAndPixelsUsedCountAsMask) {
    const Dataset data;
    data.write_two_clips();
    // ID 2 appears in frame 5 alone, which head sampling of 5 frames does not use.
    data.write_masks("a/id2", 6, 0, 0, 0, 0);
    at::Tensor late = at::full({32, 48}, 255, at::kByte);
    media::write_png(data.root() / "mask_annotation/a/id2/005.png", late);
    EXPECT_TRUE(set_columns(sample_of(data).token_mask[0][2]).empty());
    // Cropping 48 to 16 columns leaves 16..31 of a video whose height is the target's.
    data.write_masks("a/id2", 6, 0, 0, 32, 16);
    auto config = data.config();
    config.width = 16;
    const Row row = read_manifest(data.root()).rows[0];
    EXPECT_TRUE(set_columns(load_sample(row, config, tokenizer(), false).token_mask[0][2]).empty());
}

TEST(Sample, PhrasesFollowTheMarkersSetting) {
    const Dataset data;
    data.write_two_clips();
    const Row row = read_manifest(data.root()).rows[0];
    auto config = data.config();
    config.strip_id_markers = false;
    const RowText words = read_text(row, config, tokenizer());
    EXPECT_EQ(words.prompt, "A <id1> man lifts a <id2> box.");
    const auto tokens = set_columns(words.token_mask[0][0]);
    EXPECT_GT(tokens.size(), 1U) << "\"<id1> man\" as it stands";
}

TEST(Sample, ReportsEveryPhraseThatIsNotThere) {
    const Dataset data;
    data.write_two_clips();
    data.write("metadata.jsonl",
               row_with("A woman sees a cat and a cat.",
                        R"([{"subject": {"phrase": "man", "id": 1}, "verb": {"phrase": "sees"}, )"
                        R"("object": {"phrase": "cat", "id": 2}}])"));
    const Row row = read_manifest(data.root()).rows[0];
    try {
        (void)read_text(row, data.config(), tokenizer());
        FAIL();
    } catch (const RunError& e) {
        EXPECT_THAT(e.faults(), ElementsAre(AllOf(HasSubstr("metadata.jsonl line 1 (row 0)"),
                                                  HasSubstr("man"), HasSubstr("A woman sees")),
                                            AllOf(HasSubstr("cat"),
                                                  HasSubstr("A woman sees a cat and a cat."))));
    }
}

TEST(Sample, SaysThatAPhraseIsCutOff) {
    const Dataset data;
    data.write_two_clips();
    std::string prompt = "A man";
    for (int i = 0; i < 230; ++i) {
        prompt += " and";
    }
    data.write(
        "metadata.jsonl",
        row_with(prompt + " lifts it.",
                 R"([{"subject": {"phrase": "man", "id": 1}, "verb": {"phrase": "lifts"}}])"));
    const RawSample sample = sample_of(data);
    EXPECT_FALSE(set_columns(sample.token_mask[0][0]).empty());
    EXPECT_TRUE(set_columns(sample.token_mask[0][1]).empty()) << "no object";
    EXPECT_TRUE(set_columns(sample.token_mask[0][2]).empty());
    EXPECT_EQ(sample.masks[0][1].max().item<int>(), 0) << "no object";
    EXPECT_THAT(sample.notes, ElementsAre(AllOf(HasSubstr("row 0"), HasSubstr("\"lifts\""),
                                                HasSubstr("226 tokens"))));
}

TEST(Sample, FollowsTheVideosOrderWithRepeatedFrames) {
    const Dataset data;
    data.write_two_clips();
    auto config = data.config();
    config.fps = 20.0;
    const Row row = read_manifest(data.root()).rows[0];
    const Clip repeated = load_clip(row, config, {.video = true, .tracks = true, .id_map = false});
    const Clip plain =
        load_clip(row, data.config(), {.video = true, .tracks = false, .id_map = false});
    const at::Tensor order = at::tensor({0, 0, 1, 1, 2}, at::kLong);
    expect_equal(repeated.video, plain.video.index_select(1, order), "video");
    EXPECT_EQ(repeated.tracks.size(1), 5);
    EXPECT_FALSE(plain.tracks.defined());
    EXPECT_FALSE(repeated.id_map.defined());
}

TEST(MaskSize, MustHaveTheVideosShape) {
    media::VideoInfo info;
    info.width_px = 854;
    info.height_px = 480;
    for (const auto& [width, height] : {std::pair{854, 480}, {427, 240}, {107, 60}, {1708, 960}}) {
        EXPECT_NO_THROW(check_mask_size("m.png", height, width, info)) << width;
    }
    for (const auto& [width, height] : {std::pair{480, 854}, {109, 60}, {854, 470}, {512, 512}}) {
        expect_error(
            [&, w = width, h = height] { check_mask_size("m.png", h, w, info); },
            {"m.png", std::to_string(width) + " x " + std::to_string(height), "854 x 480"});
    }
}

TEST(Doctor, FindsNothingInAGoodDataSet) {
    const Dataset data;
    data.write_two_clips();
    const DatasetReport report = check_dataset(data.config(), nullptr, Depth::kPixels);
    EXPECT_THAT(report.faults, ElementsAre());
    EXPECT_THAT(report.notes, ElementsAre());
    EXPECT_EQ(report.num_clips, 2);
    EXPECT_EQ(report.num_without_interactions, 1);
    EXPECT_EQ(report.num_without_masks, 1);
}

TEST(Doctor, FindsEveryFaultAtOnce) {
    const Dataset data;
    data.write_two_clips();
    data.write_video("videos/short.mp4", 4);
    fs::remove_all(data.root() / "mask_annotation/a/id2");
    data.write_masks("a/<id1>", 2, 0, 0, 1, 1);
    for (const char* late : {"002.png", "003.png", "004.png", "005.png"}) {
        fs::remove(data.root() / "mask_annotation/a/<id1>" / late);
    }
    data.write_masks("b/<id1>", 6, 0, 0, 1, 1);
    data.write_masks("b/id1", 6, 0, 0, 1, 1);
    data.write_masks("b/<id7>", 6, 0, 0, 1, 1);
    data.write("metadata.jsonl", Dataset::a_row() + "\n" + R"({"video": "b.mp4", "prompt": "Rain."}
{"video": "short.mp4", "prompt": "Rain."}
{"video": "missing.mp4", "prompt": "Rain."}
)");
    const DatasetReport report = check_dataset(data.config(), &tokenizer(), Depth::kHeaders);
    EXPECT_THAT(
        report.faults,
        testing::UnorderedElementsAre(
            AllOf(HasSubstr("mask_annotation/a: has no folder <id2> or id2"), HasSubstr("row 0")),
            AllOf(HasSubstr("b/<id7>"), HasSubstr("1 to 5")),
            AllOf(HasSubstr("b/id1"), HasSubstr("stands beside <id1>")),
            AllOf(HasSubstr("short.mp4"), HasSubstr("has 4 frames"), HasSubstr("5 are needed")),
            AllOf(HasSubstr("videos/missing.mp4: missing"), HasSubstr("row 3"))));
}

TEST(Doctor, AFolderThatCannotBeReadIsNotOneThatIsMissing) {
    const Dataset data;
    data.write_two_clips();
    data.write("metadata.jsonl", R"({"video": "b.mp4", "prompt": "Rain."})");
    fs::remove_all(data.root() / "mask_annotation/b");
    EXPECT_THAT(check_dataset(data.config(), &tokenizer(), Depth::kHeaders).faults, IsEmpty());
    data.write("mask_annotation/b", "no folder");
    EXPECT_THAT(check_dataset(data.config(), &tokenizer(), Depth::kHeaders).faults,
                ElementsAre(AllOf(HasSubstr("mask_annotation/b: "), HasSubstr("Not a directory"))));
}

TEST(Doctor, CountsMasksAndReadsThemAll) {
    const Dataset data;
    data.write_two_clips();
    const auto folder = data.root() / "mask_annotation/a/id2";
    fs::remove(folder / "004.png");
    fs::remove(folder / "005.png");
    data.write("mask_annotation/a/id2/._000.png", "not a mask");
    EXPECT_THAT(check_dataset(data.config(), nullptr, Depth::kHeaders).faults,
                ElementsAre(AllOf(HasSubstr("a/id2"), HasSubstr("holds 4 masks"),
                                  HasSubstr("5 are needed"))));
    data.write_masks("a/id2", 6, 0, 0, 8, 8);
    media::write_png(folder / "001.png", at::zeros({20, 20}, at::kByte));
    data.write("mask_annotation/a/id2/002.png", "not a PNG");
    EXPECT_THAT(check_dataset(data.config(), nullptr, Depth::kPixels).faults,
                testing::UnorderedElementsAre(AllOf(HasSubstr("001.png"), HasSubstr("20 x 20")),
                                              HasSubstr("002.png")));
}

TEST(Doctor, NotesMasksThatSortOddly) {
    const Dataset data;
    data.write_two_clips();
    const auto folder = data.root() / "mask_annotation/a/id2";
    for (int i = 0; i < 6; ++i) {
        fs::rename(folder / ("00" + std::to_string(i) + ".png"),
                   folder / (std::to_string(i + 7) + ".png"));
    }
    const DatasetReport report = check_dataset(data.config(), nullptr, Depth::kHeaders);
    EXPECT_THAT(report.faults, ElementsAre());
    EXPECT_THAT(report.notes, ElementsAre(AllOf(HasSubstr("12.png before 7.png"))));
}

}  // namespace
}  // namespace matrix::data_source
