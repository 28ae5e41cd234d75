#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <thread>

#include "matrix/core/files.h"
#include "matrix/data_cache/entries.h"
#include "matrix/data_cache/reader.h"
#include "support/errors.h"
#include "support/temp_directory.h"
#include "support/tensors.h"

namespace matrix::data_cache {
namespace {

namespace fs = std::filesystem;
using test::expect_equal;
using test::expect_error;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t kTokens = 12, kWidth = 4, kLatentChannels = 2;

// A cache of one clip with two interactions and one clip with none, made by hand.
class CacheTest : public testing::Test {
protected:
    CacheTest() {
        config_.path = (directory_ / "data").string();
        config_.cache = (directory_ / "cache").string();
        config_.frames = 5;
        config_.height = 32;
        config_.width = 48;
        config_.image_noise_draws = 3;
        encoders_ = {hash_text("vae"), hash_text("text")};
        write("data/metadata.jsonl", "rows");
        write("data/videos/a.mp4", "video a");
        write("data/mask_annotation/a/<id1>/000.png", "mask");
        masks_ = (at::rand({2, 5, 32, 48}) > 0.5).to(at::kByte);
        FileHashes hashes({});
        index_.config = config_;
        index_.encoders = encoders_;
        index_.metadata_file = "metadata.jsonl";
        index_.metadata_hash = hashes.file(directory_ / "data/metadata.jsonl");
        index_.empty_prompt_key = add_prompt("");
        index_.clips = {make_clip("a", hashes), make_clip("b", hashes)};
        index_.clips[1].interactions.clear();
        index_.clips[1].masks_key.clear();
        index_.clips[1].id_map_key.clear();
        index_.save(cache());
    }

    void write(const std::string& name, const std::string& text) const {
        fs::create_directories((directory_ / name).parent_path());
        std::ofstream(directory_ / name, std::ios::binary) << text;
    }

    [[nodiscard]] fs::path cache() const { return *config_.cache; }

    std::string add_prompt(const std::string& text) {
        const std::string key = prompt_key(text, encoders_);
        const at::Tensor prompt = at::full({kTokens, kWidth}, static_cast<double>(text.size()));
        write_entry(cache(), EntryKind::kPrompt, key, {{"prompt", prompt.to(at::kBFloat16)}});
        return key;
    }

    CachedClip make_clip(const std::string& name, FileHashes& hashes) {
        CachedClip clip;
        clip.video = "videos/" + name + ".mp4";
        clip.mask_root = "mask_annotation/" + name;
        clip.hashes.video = hash_text("video " + name);
        if (name == "a") {
            clip.hashes.masks["<id1>"] =
                hashes.folder(directory_ / "data/mask_annotation/a/<id1>", {"000.png"});
        }
        clip.video_key = video_key(config_, clip.hashes, encoders_);
        clip.masks_key = masks_key(config_, clip.hashes);
        clip.id_map_key = id_map_key(config_, clip.hashes, encoders_);
        clip.prompt_key = add_prompt("prompt " + name);
        clip.interactions = {{.tokens = {{{1, 2}, {5}, {3}}}, .ids = {4, 2}},
                             {.tokens = {{{7}, {}, {8}}}, .ids = {2, 0}}};
        const std::int64_t c = 2 * kLatentChannels;
        at::Tensor versions = at::zeros({3, c, 1, 4, 6});
        for (std::int64_t j = 0; j < 3; ++j) {
            versions[j].fill_(static_cast<double>(j));
        }
        write_entry(cache(), EntryKind::kVideo, clip.video_key,
                    {{"video_moments", at::rand({c, 2, 4, 6})},
                     {"image_clean_moments", at::full({c, 1, 4, 6}, -1.0F)},
                     {"image_moments", versions}});
        write_entry(cache(), EntryKind::kMasks, clip.masks_key,
                    {{"ids", at::tensor({2, 4}, at::kLong)},
                     {"pixels", masks_.sum({1, 2, 3}, false, at::kLong)},
                     {"tracks", pack_bits(masks_)},
                     {"query_half", at::ones({2, 2, 3}, at::kByte)},
                     {"query_nearest", at::zeros({2, 2, 3}, at::kByte)}});
        write_entry(cache(), EntryKind::kIdMap, clip.id_map_key,
                    {{"id_map_mean", at::full({kLatentChannels, 1, 4, 6}, 0.5F)}});
        return clip;
    }

    [[nodiscard]] CacheReader reader(bool nearest = false) const {
        return {cache(), config_, encoders_, nearest};
    }

    [[nodiscard]] std::vector<std::string> faults() const {
        try {
            (void)reader();
        } catch (const RunError& e) {
            return e.faults();
        }
        return {};
    }

    void overwrite(const fs::path& path, std::size_t position_from_end) const {
        std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekg(-static_cast<std::streamoff>(position_from_end), std::ios::end);
        const char byte = static_cast<char>(file.get());
        file.seekp(-static_cast<std::streamoff>(position_from_end), std::ios::end);
        file.put(static_cast<char>(byte ^ 1));
    }

    test::TempDirectory directory_;
    DataConfig config_;
    EncoderIds encoders_;
    CacheIndex index_;
    at::Tensor masks_;
};

TEST_F(CacheTest, GivesBackWhatWasWritten) {
    const CacheReader source = reader();
    ASSERT_EQ(source.size(), 2);
    EXPECT_EQ(source.num_without_interactions(), 1);
    const EncodedSample sample = source.get(0, 1, 2);
    EXPECT_EQ(sample.name, "videos/a.mp4");
    EXPECT_EQ(sample.video_moments.sizes(), at::IntArrayRef({4, 2, 4, 6}));
    expect_equal(sample.image_clean_moments, at::full({4, 1, 4, 6}, -1.0F), "clean");
    expect_equal(sample.id_map_mean, at::full({2, 1, 4, 6}, 0.5F), "id_map_mean");
    EXPECT_EQ(sample.prompt.scalar_type(), at::kBFloat16);
    EXPECT_EQ(sample.prompt.max().item<double>(), 8.0);
    at::Tensor tokens = at::zeros({2, 3, kTokens}, at::kByte);
    tokens[0][0][1] = tokens[0][0][2] = tokens[0][1][5] = tokens[0][2][3] = 1;
    tokens[1][0][7] = tokens[1][2][8] = 1;
    expect_equal(sample.token_mask, tokens, "token_mask");
    at::Tensor masks = at::zeros({2, 2, 5, 32, 48}, at::kByte);
    masks[0][0].copy_(masks_[1]);  // ID 4
    masks[0][1].copy_(masks_[0]);  // ID 2
    masks[1][0].copy_(masks_[0]);
    expect_equal(sample.masks, masks, "masks");
    EXPECT_EQ(sample.query_mask.sum().item<std::int64_t>(), 3 * 6);
    EXPECT_EQ(reader(true).get(0, 1, 2).query_mask.sum().item<std::int64_t>(), 0);
    EXPECT_EQ(source.empty_prompt().abs().max().item<double>(), 0.0);

    const EncodedSample plain = source.get(1, 1, 2);
    EXPECT_EQ(plain.masks.sizes(), at::IntArrayRef({0, 2, 5, 32, 48}));
    EXPECT_EQ(plain.token_mask.sizes(), at::IntArrayRef({0, 3, kTokens}));
    EXPECT_FALSE(plain.id_map_mean.defined());
}

TEST_F(CacheTest, TheVersionOfTheImageFollowsTheKeyAlone) {
    const CacheReader source = reader();
    std::set<double> versions;
    for (std::uint64_t number = 0; number < 40; ++number) {
        const double version = source.get(0, 7, number).image_moments.max().item<double>();
        EXPECT_EQ(version, source.get(0, 7, number).image_moments.min().item<double>());
        EXPECT_EQ(version, source.get(1, 7, number).image_moments.max().item<double>());
        versions.insert(version);
    }
    EXPECT_THAT(versions, ElementsAre(0.0, 1.0, 2.0));
}

TEST_F(CacheTest, ManyThreadsReadTheSame) {
    const CacheReader source = reader();
    const EncodedSample wanted = source.get(0, 3, 4);
    std::vector<EncodedSample> samples(4);
    {
        std::vector<std::jthread> threads;
        for (EncodedSample& sample : samples) {
            threads.emplace_back([&] { sample = source.get(0, 3, 4); });
        }
    }
    for (const EncodedSample& sample : samples) {
        expect_equal(sample.video_moments, wanted.video_moments, "video_moments");
        expect_equal(sample.masks, wanted.masks, "masks");
    }
}

TEST_F(CacheTest, RefusesOtherSettingsAndEncoders) {
    config_.frames = 9;
    config_.resize = "stretch";
    config_.fps = 8.0;
    config_.image_dropout = 0.5;  // of no concern to the cache
    encoders_.vae = hash_text("another");
    EXPECT_THAT(faults(),
                ElementsAre(HasSubstr("data.frames = 5, not 9"),
                            HasSubstr("data.resize = \"crop\", not \"stretch\""),
                            HasSubstr("data.fps = null, not 8"), HasSubstr("another VAE")));
}

TEST_F(CacheTest, EncodersThatAreNotThereAreNotCompared) {
    encoders_ = {};
    EXPECT_THAT(faults(), ElementsAre());
}

TEST_F(CacheTest, AnIdMapIsReadOnlyWhereItIsWanted) {
    config_.id_map = false;
    EXPECT_FALSE(reader().get(0, 1, 2).id_map_mean.defined());
    index_.config.id_map = false;
    index_.save(cache());
    config_.id_map = true;
    EXPECT_THAT(faults(), ElementsAre(HasSubstr("prepared without ID maps")));
}

TEST_F(CacheTest, ReportsEveryMissingAndDamagedEntry) {
    const fs::path video = entry_path(cache(), EntryKind::kVideo, index_.clips[0].video_key);
    fs::resize_file(video, fs::file_size(video) - 8);
    fs::remove(entry_path(cache(), EntryKind::kMasks, index_.clips[0].masks_key));
    write_entry(cache(), EntryKind::kPrompt, index_.clips[1].prompt_key,
                {{"prompt", at::zeros({3})}});
    EXPECT_THAT(faults(), testing::UnorderedElementsAre(
                              HasSubstr(video.string()),
                              AllOf(HasSubstr(index_.clips[0].masks_key), HasSubstr("missing")),
                              AllOf(HasSubstr("tensor prompt"), HasSubstr("[3]"))));
    EXPECT_FALSE(has_entry(cache(), EntryKind::kVideo, index_.clips[0].video_key, config_));
    EXPECT_TRUE(has_entry(cache(), EntryKind::kIdMap, index_.clips[0].id_map_key, config_));
}

TEST_F(CacheTest, AnEntryUnderAnothersNameIsNotIt) {
    fs::copy_file(entry_path(cache(), EntryKind::kVideo, index_.clips[0].video_key),
                  entry_path(cache(), EntryKind::kVideo, index_.clips[1].video_key),
                  fs::copy_options::overwrite_existing);
    EXPECT_THAT(faults(), ElementsAre(HasSubstr("is not the entry its name says")));
}

TEST_F(CacheTest, VerifyFindsAFlippedBit) {
    EXPECT_THAT(verify_cache(cache()), ElementsAre());
    const fs::path video = entry_path(cache(), EntryKind::kVideo, index_.clips[0].video_key);
    overwrite(video, 1);
    EXPECT_THAT(faults(), ElementsAre()) << "headers alone do not show it";
    EXPECT_THAT(verify_cache(cache()),
                ElementsAre(AllOf(HasSubstr(video.string()), HasSubstr("checksum"))));
}

TEST_F(CacheTest, AFlippedBitBecomesNoSample) {
    const fs::path video = entry_path(cache(), EntryKind::kVideo, index_.clips[0].video_key);
    overwrite(video, 1);
    const CacheReader source = reader();
    (void)source.get(1, 0, 0);
    for (int attempt = 0; attempt < 2; ++attempt) {
        expect_error([&] { (void)source.get(0, 0, 0); }, {video.string(), "checksum"});
    }
}

TEST_F(CacheTest, RefusesADamagedIndex) {
    const auto reject = [&](const std::string& text, const std::string& part) {
        write("cache/index.json", text);
        expect_error([&] { (void)CacheIndex::load(cache()); }, {"index.json", part});
    };
    const std::string good = read_text_file(cache() / "index.json");
    const auto replaced = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        const auto at = text.find(from);
        EXPECT_NE(at, std::string::npos) << from;
        return text.replace(at, from.size(), to);
    };
    reject("{", "");
    reject("{}", "matrix prepare");
    reject("[]", "matrix prepare");
    reject(replaced("\"format\": 1", "\"format\": 99"), "format version 99");
    reject(replaced(index_.clips[0].video_key, "../../etc/passwd"), "is not a hash");
    reject(replaced("videos/a.mp4", "../a.mp4"), "leaves the data set");
    reject(replaced("\"frames\": 5", "\"frames\": 6"), "4k + 1");
    fs::remove(cache() / "index.json");
    expect_error([&] { (void)CacheIndex::load(cache()); }, {"no prepared cache", "matrix prepare"});
}

TEST_F(CacheTest, OpensWithoutTheDataSetButNotWithAnother) {
    const auto open = [&] { return open_cache(config_, directory_ / "model", "float32", false); };
    EXPECT_EQ(open()->size(), 2);
    write("data/videos/a.mp4", "another video");
    write("data/metadata.jsonl", "other rows");
    write("data/mask_annotation/a/<id1>/001.png", "one more");
    try {
        (void)open();
        FAIL();
    } catch (const RunError& e) {
        EXPECT_THAT(e.faults(),
                    ElementsAre(AllOf(HasSubstr("metadata.jsonl"), HasSubstr("changed")),
                                HasSubstr("videos/a.mp4"), HasSubstr("a/<id1>")));
    }
    fs::remove_all(directory_ / "data");
    EXPECT_EQ(open()->size(), 2);
    write("model/vae/config.json", "{}");  // training reads it
    EXPECT_EQ(open()->size(), 2);
    write("model/vae/diffusion_pytorch_model.safetensors", "weights");
    expect_error([&] { (void)open(); }, {"another VAE"});
    config_.cache.reset();
    expect_error<UsageError>([&] { (void)open(); }, {"data.cache"});
}

TEST_F(CacheTest, OpeningHashesFilesOnce) {
    const auto open = [&] { return open_cache(config_, directory_ / "model", "float32", false); };
    write("model/vae/config.json", "{}");
    write("model/vae/diffusion_pytorch_model.safetensors", "weights");
    FileHashes hashes({});
    index_.encoders.vae = encoder_ids(directory_ / "model", "float32", hashes).vae;
    index_.save(cache());
    EXPECT_EQ(open()->size(), 2);
    // What the memo says of a file is taken, which shows that the file is not read again.
    std::string memo = read_text_file(hashes_path(cache()));
    const std::string& video = index_.clips.front().hashes.video;
    ASSERT_NE(memo.find(video), std::string::npos);
    memo.replace(memo.find(video), video.size(), hash_text("other"));
    std::ofstream(hashes_path(cache())) << memo;
    expect_error([&] { (void)open(); }, {"videos/a.mp4", "changed"});
    // And once more where the cache is refused.
    overwrite(directory_ / "data/videos/a.mp4", 1);
    fs::remove(hashes_path(cache()));
    expect_error([&] { (void)open(); }, {"videos/a.mp4", "changed"});
    EXPECT_TRUE(fs::exists(hashes_path(cache())));
}

TEST(FileHashes, FollowTheContentAndNotTheTime) {
    const test::TempDirectory directory;
    const auto write = [&](const std::string& text) { std::ofstream(directory / "f") << text; };
    const auto hash = [&] {
        FileHashes hashes(directory / "memo.json");
        std::string result = hashes.file(directory / "f");
        hashes.save();
        return result;
    };
    write("one");
    const std::string first = hash();
    EXPECT_EQ(first, hash_text("one"));
    fs::last_write_time(directory / "f", fs::file_time_type::clock::now() + std::chrono::hours(1));
    EXPECT_EQ(hash(), first);
    write("two");
    EXPECT_NE(hash(), first);
}

TEST(FileHashes, TrustTheMemoOnlyForTheSameFile) {
    const test::TempDirectory directory;
    std::ofstream(directory / "f") << "one";
    const auto time = fs::last_write_time(directory / "f");
    {
        FileHashes hashes(directory / "memo.json");
        (void)hashes.file(directory / "f");
        hashes.save();
    }
    // What the memo says is taken, which shows that the file was not read.
    std::string memo = read_text_file(directory / "memo.json");
    const std::size_t at = memo.find(hash_text("one"));
    ASSERT_NE(at, std::string::npos);
    std::ofstream(directory / "memo.json") << memo.replace(at, 32, hash_text("other"));
    EXPECT_EQ(FileHashes(directory / "memo.json").file(directory / "f"), hash_text("other"));
    // Same size and time, but changed since.
    std::ofstream(directory / "f") << "two";
    fs::last_write_time(directory / "f", time);
    EXPECT_EQ(FileHashes(directory / "memo.json").file(directory / "f"), hash_text("two"));
    std::ofstream(directory / "memo.json") << "{ damaged";
    EXPECT_EQ(FileHashes(directory / "memo.json").file(directory / "f"), hash_text("two"));
    expect_error([&] { (void)FileHashes({}).file(directory / "missing"); },
                 {"missing", "No such file"});
}

TEST(FileHashes, AMemoThatCannotBeWrittenIsNoFault) {
    const test::TempDirectory directory;
    std::ofstream(directory / "f") << "one";
    fs::create_directory(directory / "memo.json");  // rename(2) refuses, whoever runs this
    FileHashes hashes(directory / "memo.json");
    EXPECT_EQ(hashes.file(directory / "f"), hash_text("one"));
    EXPECT_NO_THROW(hashes.save());
    EXPECT_THAT(directory.names(), ElementsAre("f", "memo.json"));
}

TEST(FileHashes, OfAFolderFollowOrderAndContent) {
    const test::TempDirectory directory;
    std::ofstream(directory / "a") << "1";
    std::ofstream(directory / "b") << "2";
    FileHashes hashes({});
    const auto first = hashes.folder(directory.path(), {"a", "b"});
    EXPECT_EQ(FileHashes({}).folder(directory.path(), {"a", "b"}), first);
    EXPECT_NE(FileHashes({}).folder(directory.path(), {"b", "a"}), first);
    fs::rename(directory / "b", directory / "c");
    EXPECT_EQ(hashes.folder(directory.path(), {"a", "c"}), first) << "names do not matter";
}

TEST(Keys, ChangeWithEverythingTheyAreMadeFrom) {
    const DataConfig base;
    const ClipHashes clip = {"v", {{"<id1>", "m"}}};
    const EncoderIds ids = {"vae", "text"};
    const auto keys = [&](const DataConfig& c, const ClipHashes& h, const EncoderIds& e) {
        return std::vector<std::string>{video_key(c, h, e), masks_key(c, h), id_map_key(c, h, e)};
    };
    const auto changed = [&](auto&& change) {
        DataConfig config = base;
        ClipHashes hashes = clip;
        EncoderIds encoders = ids;
        change(config, hashes, encoders);
        const auto before = keys(base, clip, ids), after = keys(config, hashes, encoders);
        std::string result;
        for (std::size_t i = 0; i < before.size(); ++i) {
            result += before[i] == after[i] ? '.' : 'x';
        }
        return result;  // video, masks, ID map
    };
    EXPECT_EQ(changed([](auto& c, auto&, auto&) { c.frames = 9; }), "xx.");
    EXPECT_EQ(changed([](auto& c, auto&, auto&) { c.height = 16; }), "xxx");
    EXPECT_EQ(changed([](auto& c, auto&, auto&) { c.width = 16; }), "xxx");
    EXPECT_EQ(changed([](auto& c, auto&, auto&) { c.resize = "stretch"; }), "xxx");
    EXPECT_EQ(changed([](auto& c, auto&, auto&) { c.sampling = "uniform"; }), "xx.");
    EXPECT_EQ(changed([](auto& c, auto&, auto&) { c.stride = 2; }), "xx.");
    EXPECT_EQ(changed([](auto& c, auto&, auto&) { c.fps = 8.0; }), "xx.");
    EXPECT_EQ(changed([](auto& c, auto&, auto&) { c.image_noise_draws = 2; }), "x..");
    EXPECT_EQ(changed([](auto&, auto& h, auto&) { h.video = "w"; }), "xxx");
    EXPECT_EQ(changed([](auto&, auto& h, auto&) { h.masks["<id1>"] = "n"; }), ".xx");
    EXPECT_EQ(changed([](auto&, auto&, auto& e) { e.vae = "other"; }), "x.x");
    EXPECT_EQ(changed([](auto&, auto&, auto& e) { e.text = "other"; }), "...");
    EXPECT_EQ(changed([](auto& c, auto&, auto&) { c.image_dropout = 0.5; }), "...");
    EXPECT_NE(prompt_key("a", ids), prompt_key("b", ids));
    EXPECT_NE(prompt_key("a", ids), prompt_key("a", {"vae", "other"}));
    EXPECT_EQ(prompt_key("a", ids), prompt_key("a", {"other", "text"}));
}

TEST(EncoderIds, FollowFilesAndDtype) {
    const test::TempDirectory model;
    for (const char* name : {"vae", "text_encoder", "tokenizer"}) {
        fs::create_directories(model / name);
    }
    FileHashes hashes({});
    EXPECT_EQ(encoder_ids(model.path(), "float32", hashes).vae, "");
    std::ofstream(model / "vae/config.json") << "{}";
    std::ofstream(model / "text_encoder/config.json") << "{}";
    std::ofstream(model / "tokenizer/spiece.model") << "pieces";
    EXPECT_EQ(encoder_ids(model.path(), "float32", hashes).vae, "") << "without weights";
    EXPECT_EQ(encoder_ids(model.path(), "float32", hashes).text, "") << "without weights";
    std::ofstream(model / "vae/model.safetensors") << "weights";
    std::ofstream(model / "text_encoder/model.safetensors") << "weights";
    fs::remove(model / "tokenizer/spiece.model");
    EXPECT_EQ(encoder_ids(model.path(), "float32", hashes).text, "") << "without a tokenizer";
    std::ofstream(model / "tokenizer/spiece.model") << "pieces";
    const EncoderIds ids = encoder_ids(model.path(), "float32", hashes);
    EXPECT_NE(ids.vae, "");
    EXPECT_NE(ids.text, "");
    EXPECT_NE(encoder_ids(model.path(), "bfloat16", hashes).vae, ids.vae);
    std::ofstream(model / "vae/config.json") << "{ }";
    EXPECT_NE(encoder_ids(model.path(), "float32", hashes).vae, ids.vae);
    std::ofstream(model / "vae/config.json") << "{}";
    std::ofstream(model / "tokenizer/spiece.model") << "other pieces";
    EXPECT_NE(encoder_ids(model.path(), "float32", hashes).text, ids.text);
    EXPECT_EQ(encoder_ids(model.path(), "float32", hashes).vae, ids.vae);
}

TEST(Bits, RoundTrip) {
    const at::Tensor masks = (at::rand({2, 3, 4, 6}) > 0.5).to(at::kByte);
    const at::Tensor bits = pack_bits(masks);
    EXPECT_EQ(bits.sizes(), at::IntArrayRef({2, 3, 3}));
    at::Tensor out = at::empty({3, 4, 6}, at::kByte);
    unpack_bits(bits[1], out);
    expect_equal(out, masks[1], "masks");
}

}  // namespace
}  // namespace matrix::data_cache
