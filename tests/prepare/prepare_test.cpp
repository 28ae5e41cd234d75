#include "matrix/prepare/prepare.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "data_source/dataset.h"
#include "matrix/core/files.h"
#include "matrix/core/random.h"
#include "matrix/data_cache/entries.h"
#include "matrix/data_cache/reader.h"
#include "matrix/data_source/sample.h"
#include "matrix/media/video.h"
#include "prepare/plan.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace matrix::prepare {
namespace {

namespace fs = std::filesystem;
using data_cache::EncodedSample;
using test::Dataset;
using test::expect_equal;
using test::expect_error;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Encoders that are plain functions and count their calls: a "latent" is the pixel at each 8 x 8
// corner of every fourth frame, an embedding the token ids.
struct FakeEncoders {
    int text_loads = 0, video_loads = 0;
    int prompts = 0, videos = 0, images = 0;
    std::int64_t fail_after = -1;  // calls of the VAE
    std::string vae = "vae";

    static at::Tensor latents(const at::Tensor& video) {
        const at::Tensor corners = video.slice(1, 0, video.size(1), 4)
                                       .slice(2, 0, video.size(2), 8)
                                       .slice(3, 0, video.size(3), 8);
        return at::cat({corners, corners * 0 - 30.0}).contiguous();  // [6, F, h, w]
    }

    Encoders get() {
        return {.ids =
                    [this](data_cache::FileHashes&) {
                        return data_cache::EncoderIds{vae.empty() ? "" : hash_text(vae),
                                                      hash_text("text")};
                    },
                .load_text =
                    [this] {
                        ++text_loads;
                        return [this](const at::Tensor& ids) {
                            prompts += static_cast<int>(ids.size(0));
                            return ids.to(at::kFloat).unsqueeze(2).expand({-1, -1, 2}).contiguous();
                        };
                    },
                .load_video =
                    [this] {
                        ++video_loads;
                        return [this](const at::Tensor& video) {
                            if (fail_after >= 0 && fail_after-- == 0) {
                                throw RunError("the power went out");
                            }
                            ++(video.size(1) > 1 ? videos : images);
                            return latents(video);
                        };
                    }};
    }
};

class PrepareTest : public testing::Test {
protected:
    PrepareTest() {
        data_.write_two_clips();
        const fs::path tokenizer = fs::path(MATRIX_SOURCE_DIR) / "assets/t5-tokenizer";
        fs::create_directories(directory_ / "model");
        fs::create_directory_symlink(tokenizer, directory_ / "model/tokenizer");
        options_.model = directory_ / "model";
        options_.data = data_.config();
        options_.data.cache = (directory_ / "cache").string();
    }

    [[nodiscard]] std::unique_ptr<data_cache::SampleSource> open() {
        return open_source(options_, fake_.get());
    }

    [[nodiscard]] data_source::RawSample raw(std::size_t row) const {
        const text::T5Tokenizer tokenizer(options_.model / "tokenizer");
        return load_sample(data_source::read_manifest(data_.root()).rows[row], options_.data,
                           tokenizer, false);
    }

    [[nodiscard]] std::set<std::string> cache_files() const {
        std::set<std::string> names;
        for (const auto& entry : fs::recursive_directory_iterator(*options_.data.cache)) {
            if (entry.is_regular_file()) {
                names.insert(fs::relative(entry.path(), *options_.data.cache).string());
            }
        }
        return names;
    }

    // Prepares with new counters.
    FakeEncoders again() {
        FakeEncoders counter;
        counter.vae = fake_.vae;
        prepare(options_, counter.get());
        return counter;
    }

    Dataset data_;
    test::TempDirectory directory_;
    PrepareOptions options_;
    FakeEncoders fake_;
};

void expect_same_sample(const EncodedSample& a, const EncodedSample& b) {
    EXPECT_EQ(a.name, b.name);
    expect_equal(a.video_moments, b.video_moments, "video_moments");
    expect_equal(a.prompt, b.prompt, "prompt");
    expect_equal(a.token_mask, b.token_mask, "token_mask");
    expect_equal(a.query_mask, b.query_mask, "query_mask");
    expect_equal(a.masks, b.masks, "masks");
    ASSERT_EQ(a.id_map_mean.defined(), b.id_map_mean.defined());
    if (a.id_map_mean.defined()) {
        expect_equal(a.id_map_mean, b.id_map_mean, "id_map_mean");
    }
}

TEST_F(PrepareTest, TheCacheHoldsWhatEncodingOnTheFlyGives) {
    const auto cached = open();
    options_.data.cache.reset();
    const auto live = open();
    ASSERT_EQ(cached->size(), 2);
    ASSERT_EQ(live->size(), 2);
    for (std::int64_t i = 0; i < 2; ++i) {
        SCOPED_TRACE(i);
        expect_same_sample(cached->get(i, 1, 2), live->get(i, 1, 2));
    }
    EXPECT_TRUE(cached->get(0, 1, 2).image_clean_moments.defined());
    expect_equal(cached->empty_prompt(), live->empty_prompt(), "empty prompt");
}

TEST_F(PrepareTest, SamplesAreTheRawSamplesEncoded) {
    const auto source = open();
    const EncodedSample sample = source->get(0, 1, 2);
    const data_source::RawSample wanted = raw(0);
    expect_equal(sample.video_moments, FakeEncoders::latents(wanted.video), "video_moments");
    expect_equal(sample.image_clean_moments, FakeEncoders::latents(wanted.video.narrow(1, 0, 1)),
                 "clean");
    expect_equal(sample.id_map_mean,
                 FakeEncoders::latents(wanted.id_map.unsqueeze(1)).narrow(0, 0, 3).contiguous(),
                 "id_map_mean");
    expect_equal(sample.token_mask, wanted.token_mask, "token_mask");
    expect_equal(sample.query_mask, wanted.query_mask, "query_mask");
    expect_equal(sample.masks, wanted.masks, "masks");
    expect_equal(sample.prompt.select(1, 0).to(at::kLong).contiguous(), wanted.input_ids, "prompt");
    EXPECT_EQ(source->empty_prompt()[0][0].item<double>(), 1.0) << "</s> alone";
    EXPECT_EQ(source->empty_prompt()[1][0].item<double>(), 0.0);
    EXPECT_FALSE(source->get(1, 1, 2).id_map_mean.defined());
}

TEST_F(PrepareTest, ImageVersionsFollowTheClipsContentAlone) {
    const auto source = open();
    const std::string hash = hash_file(data_.root() / "videos/a.mp4");
    const at::Tensor first = raw(0).video.narrow(1, 0, 1);
    std::vector<at::Tensor> versions;
    for (std::uint64_t j = 0; j < 3; ++j) {
        const auto key = name_key(hash);
        const double sigma =
            std::exp(-3.0 + 0.5 * keyed_normal({1}, key, Purpose::kImageSigma, j).item<double>());
        versions.push_back(FakeEncoders::latents(
            first + sigma * keyed_normal(first.sizes(), key, Purpose::kImageNoise, j)));
    }
    std::set<std::size_t> seen;
    for (std::uint64_t number = 0; number < 20; ++number) {
        const at::Tensor image = source->get(0, 9, number).image_moments;
        for (std::size_t j = 0; j < versions.size(); ++j) {
            if (at::allclose(image, versions[j], 1e-6, 1e-6)) {
                seen.insert(j);
            }
        }
    }
    EXPECT_THAT(seen, ElementsAre(0U, 1U, 2U));
}

TEST_F(PrepareTest, OnTheFlyNoiseFollowsSeedAndSampleNumber) {
    options_.data.cache.reset();
    const auto source = open();
    const at::Tensor image = source->get(0, 1, 2).image_moments;
    expect_equal(source->get(0, 1, 2).image_moments, image, "same key");
    EXPECT_FALSE(at::equal(source->get(0, 1, 3).image_moments, image));
    EXPECT_FALSE(at::equal(source->get(0, 2, 2).image_moments, image));
}

TEST_F(PrepareTest, OnTheFlyEncodesOnlyWhatAStepReads) {
    options_.data.cache.reset();
    const auto source = open();
    EXPECT_FALSE(source->get(0, 1, 2).image_clean_moments.defined());
    EXPECT_EQ(fake_.videos, 1);
    EXPECT_EQ(fake_.images, 2) << "the noisy first frame and the ID map";
}

TEST_F(PrepareTest, NothingIsEncodedTwice) {
    prepare(options_, fake_.get());
    EXPECT_EQ(fake_.prompts, 3) << "two prompts and the empty one";
    EXPECT_EQ(fake_.videos, 2);
    EXPECT_EQ(fake_.images, 2 * (1 + 3) + 1) << "clean and noisy versions, one ID map";
    const FakeEncoders second = again();
    EXPECT_EQ(second.text_loads + second.video_loads, 0);
    // Same content, another time.
    fs::last_write_time(data_.root() / "videos/a.mp4",
                        fs::file_time_type::clock::now() + std::chrono::hours(1));
    EXPECT_EQ(again().video_loads, 0);
}

TEST_F(PrepareTest, OnlyWhatChangedIsEncodedAnew) {
    prepare(options_, fake_.get());
    data_.write("metadata.jsonl",
                Dataset::a_row() + "\n" + R"({"video": "b.mp4", "prompt": "Snow."})" + "\n");
    FakeEncoders counter = again();
    EXPECT_EQ(counter.prompts, 1);
    EXPECT_EQ(counter.video_loads, 0);
    data_.write_video("videos/b.mp4", 6, 50);
    counter = again();
    EXPECT_EQ(counter.videos, 1);
    EXPECT_EQ(counter.text_loads, 0);
    expect_equal(open()->get(1, 1, 2).video_moments, FakeEncoders::latents(raw(1).video),
                 "new video");
    data_.write_masks("a/id2", 6, 0, 32, 16, 48);
    counter = again();
    EXPECT_EQ(counter.videos, 0);
    EXPECT_EQ(counter.images, 1) << "the ID map";
    expect_equal(open()->get(0, 1, 2).masks, raw(0).masks, "new masks");
    fake_.vae = "another";
    counter = again();
    EXPECT_EQ(counter.videos, 2);
    EXPECT_EQ(counter.text_loads, 0);
}

TEST_F(PrepareTest, AStaleCacheIsRebuiltOnOpening) {
    (void)open();
    options_.data.frames = 1;
    EXPECT_EQ(open()->get(0, 1, 2).video_moments.size(1), 1);
}

TEST_F(PrepareTest, AFingerprintIsOfTheClipsAndTheirOrder) {
    const std::string rain = R"({"video": "b.mp4", "prompt": "Rain."})", a = Dataset::a_row();
    const std::optional<std::string> cache = options_.data.cache;
    for (const bool cached : {true, false}) {
        options_.data.cache = cached ? cache : std::nullopt;
        data_.write("metadata.jsonl", a + "\n" + rain + "\n");
        const std::string fingerprint = open()->fingerprint();
        EXPECT_EQ(open()->fingerprint(), fingerprint);
        data_.write("metadata.jsonl", rain + "\n" + a + "\n");
        EXPECT_NE(open()->fingerprint(), fingerprint) << cached;
        data_.write("metadata.jsonl", a + "\n");
        EXPECT_NE(open()->fingerprint(), fingerprint) << cached;
    }
}

TEST_F(PrepareTest, AnInterruptedRunGoesOnWhereItWas) {
    fake_.fail_after = 6;  // in the second clip
    expect_error([&] { prepare(options_, fake_.get()); }, {"the power went out"});
    for (const std::string& name : cache_files()) {
        EXPECT_EQ(name.find("tmp"), std::string::npos) << name;
    }
    EXPECT_EQ(cache_files().count("index.json"), 0U);
    const FakeEncoders second = again();
    EXPECT_EQ(second.prompts, 0);
    EXPECT_EQ(second.videos, 1);
    EXPECT_THAT(verify(options_, fake_.get()), IsEmpty());
}

TEST_F(PrepareTest, WhatAKilledRunLeftIsTakenAway) {
    prepare(options_, fake_.get());
    const std::set<std::string> files = cache_files();
    const fs::path videos = fs::path(*options_.data.cache) / "videos";
    for (const char* name : {"a.safetensors.tmp.1.0", "b.safetensors.tmp.2.0"}) {
        std::ofstream(videos / name) << "half";
    }
    fs::last_write_time(videos / "a.safetensors.tmp.1.0",
                        fs::file_time_type::clock::now() - std::chrono::hours(25));
    prepare(options_, fake_.get());
    std::set<std::string> left = cache_files();
    EXPECT_EQ(left.erase("videos/b.safetensors.tmp.2.0"), 1u) << "may be another process's";
    EXPECT_EQ(left, files);
}

TEST_F(PrepareTest, DamagedEntriesAreMadeAgain) {
    prepare(options_, fake_.get());
    for (const auto& entry : fs::recursive_directory_iterator(*options_.data.cache)) {
        if (entry.path().extension() == ".safetensors") {
            fs::resize_file(entry.path(), entry.file_size() - 1);
        }
    }
    const FakeEncoders second = again();
    EXPECT_EQ(second.prompts, 3);
    EXPECT_EQ(second.videos, 2);
    EXPECT_THAT(verify(options_, fake_.get()), IsEmpty());
}

TEST_F(PrepareTest, VerifyReadsEverything) {
    prepare(options_, fake_.get());
    EXPECT_THAT(verify(options_, fake_.get()), IsEmpty());
    // Same size and time: only reading the file shows it.
    const fs::path mask = data_.root() / "mask_annotation/a/id2/000.png";
    const auto time = fs::last_write_time(mask);
    std::string bytes = read_text_file(mask);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    data_.write("mask_annotation/a/id2/000.png", bytes);
    fs::last_write_time(mask, time);
    fake_.vae = "another";
    EXPECT_THAT(
        verify(options_, fake_.get()),
        ElementsAre(AllOf(HasSubstr("a/id2"), HasSubstr("changed")), HasSubstr("another VAE")));
}

TEST_F(PrepareTest, VerifySeesIdFoldersThatCameOrWent) {
    prepare(options_, fake_.get());
    const fs::path clip = data_.root() / "mask_annotation/a";
    fs::copy(clip / "id2", clip / "id5");
    EXPECT_THAT(verify(options_, fake_.get()),
                ElementsAre(AllOf(HasSubstr(clip.string()), HasSubstr("come or gone"))));
    fs::remove_all(clip / "id5");
    EXPECT_THAT(verify(options_, fake_.get()), IsEmpty());
}

TEST_F(PrepareTest, APhraseThatIsCutOffIsNamedWhetherOrNotItsClipIsEncoded) {
    const text::T5Tokenizer tokenizer(options_.model / "tokenizer");
    data_cache::FileHashes hashes({});
    const auto notes = [&] {
        return make_plan(options_.data, fake_.get().ids(hashes), tokenizer, hashes).notes;
    };
    std::string prompt = "A man";
    for (int i = 0; i < 230; ++i) {
        prompt += " and";
    }
    data_.write("metadata.jsonl",
                R"({"video": "a.mp4", "prompt": ")" + prompt +
                    R"( lifts it.", "interactions": [{"subject": )"
                    R"({"phrase": "man", "id": 1}, "verb": {"phrase": "lifts"}}]})"
                    "\n");
    const auto said = ElementsAre(AllOf(HasSubstr("row 0"), HasSubstr("\"lifts\"")));
    EXPECT_THAT(notes(), said) << "once, where the clip is looked at too";
    prepare(options_, fake_.get());
    EXPECT_THAT(notes(), said);
}

TEST_F(PrepareTest, AVideosRateIsKept) {
    prepare(options_, fake_.get());
    const data_cache::CacheIndex index = data_cache::CacheIndex::load(*options_.data.cache);
    const auto entry = data_cache::open_entry(*options_.data.cache, data_cache::EntryKind::kVideo,
                                              index.clips.front().video_key, index.config);
    const double fps = media::probe_video(data_.root() / "videos/a.mp4").frames_per_second;
    EXPECT_GT(fps, 0);
    EXPECT_DOUBLE_EQ(std::stod(entry.metadata().at("fps")), fps);
}

TEST_F(PrepareTest, ReportsEveryFaultBeforeItEncodes) {
    data_.write_video("videos/b.mp4", 3);
    fs::remove_all(data_.root() / "mask_annotation/a/id2");
    try {
        prepare(options_, fake_.get());
        FAIL();
    } catch (const RunError& e) {
        EXPECT_THAT(e.faults(),
                    ElementsAre(HasSubstr("no folder <id2>"), HasSubstr("has 3 frames")));
    }
    EXPECT_EQ(fake_.text_loads + fake_.video_loads, 0);
}

TEST_F(PrepareTest, AFaultInDecodingStopsNoOtherClip) {
    const fs::path mask = data_.root() / "mask_annotation/a/id2/003.png";
    fs::resize_file(mask, fs::file_size(mask) - 20);  // the header is whole
    expect_error([&] { prepare(options_, fake_.get()); }, {"003.png"});
    EXPECT_EQ(fake_.videos, 1);
    EXPECT_EQ(cache_files().count("index.json"), 0U);
    data_.write_masks("a/id2", 6, 16, 16, 32, 48);
    EXPECT_EQ(again().videos, 1);
}

TEST_F(PrepareTest, HashesAreKeptWhateverComesOfThem) {
    const fs::path memo = data_cache::hashes_path(*options_.data.cache);
    data_.write_video("videos/b.mp4", 3);
    expect_error([&] { prepare(options_, fake_.get()); }, {"has 3 frames"});
    EXPECT_FALSE(fs::exists(*options_.data.cache)) << "the beginning of a cache";
    data_.write_video("videos/b.mp4", 6);
    (void)open();
    fs::remove(memo);
    data_.write_video("videos/b.mp4", 3);
    expect_error([&] { prepare(options_, fake_.get()); }, {"has 3 frames"});
    EXPECT_TRUE(fs::exists(memo)) << "of a data set with faults";
    data_.write_video("videos/b.mp4", 6);
    (void)open();
    fs::remove(memo);
    fake_.vae.clear();
    (void)open();
    EXPECT_TRUE(fs::exists(memo)) << "of a cache that is used as it stands";
    fs::remove(memo);
    fs::create_directory(memo);  // cannot be replaced by a file
    EXPECT_EQ(open()->size(), 2);
    fake_.vae = "vae";
    EXPECT_EQ(open()->size(), 2);
}

TEST_F(PrepareTest, HashesTheEncodersOnce) {
    int count = 0;
    Encoders encoders = fake_.get();
    encoders.ids = [&, ids = encoders.ids](data_cache::FileHashes& hashes) {
        ++count;
        return ids(hashes);
    };
    (void)open_source(options_, encoders);
    EXPECT_EQ(count, 1);
}

TEST_F(PrepareTest, RefusesAConfigThatCannotBe) {
    options_.data.frames = 4;
    expect_error<UsageError>([&] { (void)open(); }, {"data.frames: 4"});
    options_.data.frames = 5;
    options_.data.cache.reset();
    expect_error<UsageError>([&] { prepare(options_, fake_.get()); }, {"data.cache"});
}

TEST_F(PrepareTest, ACompleteCacheTravelsAlone) {
    const EncodedSample wanted = open()->get(0, 1, 2);
    fs::remove(options_.model / "tokenizer");
    fake_.vae.clear();
    expect_same_sample(open()->get(0, 1, 2), wanted);
    data_.write_video("videos/a.mp4", 6, 50);
    expect_error([&] { (void)open(); }, {"videos/a.mp4", "changed"});
    fs::remove_all(data_.root() / "videos");
    fs::remove_all(data_.root() / "mask_annotation");
    fs::remove(data_.root() / "metadata.jsonl");
    expect_same_sample(open()->get(0, 1, 2), wanted);
}

TEST_F(PrepareTest, SharedContentIsStoredOnce) {
    fs::copy_file(data_.root() / "videos/b.mp4", data_.root() / "videos/c.mp4");
    data_.write("metadata.jsonl", R"({"video": "b.mp4", "prompt": "Rain."}
{"video": "c.mp4", "prompt": "Rain."}
)");
    const auto source = open();
    EXPECT_EQ(source->size(), 2);
    EXPECT_EQ(fake_.videos, 1);
    EXPECT_EQ(fake_.prompts, 2);
}

}  // namespace
}  // namespace matrix::prepare
