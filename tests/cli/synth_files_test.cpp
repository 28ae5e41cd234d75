#include "cli/synth/captions.h"
#include "cli/synth/choreography.h"
#include "cli/synth/render.h"
#include "cli/synth/scene.h"
#include "cli/synth/synth.h"
#include "matrix/core/error.h"
#include "matrix/core/files.h"
#include "matrix/media/image.h"
#include "matrix/media/video.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace {

namespace fs = std::filesystem;
using namespace matrix::synth;

/// A directory of its own under the system's temporary one, removed at the end.
class TemporaryDirectory {
public:
    TemporaryDirectory() {
        std::string pattern = (fs::temp_directory_path() / "matrix-synth-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
    }
    ~TemporaryDirectory() { fs::remove_all(path_); }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    [[nodiscard]] const fs::path& path() const { return path_; }

private:
    fs::path path_;
};

std::map<std::string, std::string> hashes(const fs::path& root) {
    std::map<std::string, std::string> result;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
        if (entry.is_regular_file()) {
            result[fs::relative(entry.path(), root).string()] = matrix::hash_file(entry.path());
        }
    }
    return result;
}

SynthOptions small_set(const fs::path& out, std::int64_t clips) {
    SynthOptions options;
    options.out = out;
    options.clips = clips;
    options.seed = 3;
    options.frames = 5;
    return options;
}

TEST(SynthFiles, WritesTheWholeLayout) {
    const TemporaryDirectory temporary;
    const fs::path out = temporary.path() / "data";
    synthesize(small_set(out, 3));

    std::ifstream metadata(out / "metadata.jsonl");
    std::string line;
    std::int64_t clip = 0;
    while (std::getline(metadata, line)) {
        const nlohmann::json row = nlohmann::json::parse(line);
        const World world = world_of(96, 160);
        const Scene scene = make_scene(3, clip, world);
        ++clip;
        const std::string stem = "00000" + std::to_string(clip);
        EXPECT_EQ(row.at("video"), stem + ".mp4");
        EXPECT_EQ(row.at("prompt"), describe(scene, 3, clip - 1).prompt);
        EXPECT_EQ(row.at("interactions").at(0).at("subject").at("id"), scene.lead + 1);
        EXPECT_EQ(row.at("interactions").at(0).at("object").at("phrase"),
                  character_name(scene.actors[scene.partner].character));
        EXPECT_TRUE(row.at("interactions").at(0).at("verb").at("phrase").is_string());

        const matrix::media::VideoInfo video =
            matrix::media::probe_video(out / "videos" / (stem + ".mp4"));
        EXPECT_EQ(video.num_frames, 5);
        EXPECT_EQ(video.width_px, 160);
        EXPECT_EQ(video.height_px, 96);
        EXPECT_NEAR(video.frames_per_second, 8.0, 1e-6);

        const auto poses = choreograph(scene, 5, world);
        const Renderer renderer(scene, 96, 160);
        const at::Tensor decoded = matrix::media::read_video_frames(
            out / "videos" / (stem + ".mp4"), {0, 1, 2, 3, 4});  // [5, H, W, 3]
        for (std::int64_t frame = 0; frame < 5; ++frame) {
            Picture picture = renderer.draw(poses[static_cast<std::size_t>(frame)]);
            const at::Tensor rgb = at::from_blob(picture.rgb.data(), {96, 160, 3}, at::kByte);
            // Lossy H.264 with halved chroma: near on average, not equal.
            EXPECT_LT(
                (decoded[frame].to(at::kFloat) - rgb.to(at::kFloat)).abs().mean().item<float>(),
                4.0F);
            const at::Tensor owner = at::from_blob(picture.owner.data(), {96, 160}, at::kByte);
            for (std::size_t id = 1; id <= scene.actors.size(); ++id) {
                const fs::path folder =
                    out / "mask_annotation" / stem / ("<id" + std::to_string(id) + ">");
                const at::Tensor mask =
                    matrix::media::read_mask(folder / ("00" + std::to_string(frame) + ".png"));
                EXPECT_TRUE(mask.equal(owner.eq(static_cast<std::int64_t>(id)).to(at::kByte)));
            }
        }
        for (const auto& folder : fs::directory_iterator(out / "mask_annotation" / stem)) {
            EXPECT_EQ(
                std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 5);
        }
    }
    EXPECT_EQ(clip, 3);
}

TEST(SynthFiles, EqualSeedsGiveEqualFilesAndLongerSetsBeginAlike) {
    const TemporaryDirectory temporary;
    synthesize(small_set(temporary.path() / "a", 2));
    synthesize(small_set(temporary.path() / "b", 2));
    synthesize(small_set(temporary.path() / "longer", 3));
    SynthOptions other = small_set(temporary.path() / "other", 2);
    other.seed = 4;
    synthesize(other);

    const auto a = hashes(temporary.path() / "a");
    EXPECT_EQ(a, hashes(temporary.path() / "b"));
    EXPECT_NE(a, hashes(temporary.path() / "other"));
    const auto longer = hashes(temporary.path() / "longer");
    EXPECT_GT(longer.size(), a.size());
    for (const auto& [name, hash] : a) {
        if (name != "metadata.jsonl") {
            EXPECT_EQ(longer.at(name), hash) << name;
        }
    }
    const std::string short_rows =
        matrix::read_text_file(temporary.path() / "a" / "metadata.jsonl");
    const std::string long_rows =
        matrix::read_text_file(temporary.path() / "longer" / "metadata.jsonl");
    EXPECT_EQ(long_rows.substr(0, short_rows.size()), short_rows);
}

TEST(SynthFiles, RefusesToWriteOverSomething) {
    const TemporaryDirectory temporary;
    const fs::path out = temporary.path() / "data";
    fs::create_directories(out);
    std::ofstream(out / "precious.txt") << "mine";
    try {
        synthesize(small_set(out, 1));
        FAIL() << "no error";
    } catch (const matrix::RunError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("data exists and is not an empty directory"));
        EXPECT_THAT(error.what(), testing::HasSubstr("--out"));
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(out), fs::directory_iterator()), 1);
    EXPECT_EQ(std::distance(fs::directory_iterator(temporary.path()), fs::directory_iterator()), 1);

    fs::remove(out / "precious.txt");
    synthesize(small_set(out, 1));
    EXPECT_TRUE(fs::exists(out / "metadata.jsonl"));
}

TEST(SynthFiles, SaysAllThatIsWrongWithTheOptions) {
    const TemporaryDirectory temporary;
    SynthOptions options = small_set(temporary.path() / "data", 0);
    options.frames = 4;
    options.width = 161;
    options.fps = 0.0;
    try {
        synthesize(options);
        FAIL() << "no error";
    } catch (const matrix::UsageError& error) {
        EXPECT_THAT(error.faults(),
                    testing::ElementsAre(
                        testing::HasSubstr("from 1 to 999999, not 0"),
                        testing::HasSubstr("from 5 to 10000 frames, not 4"),
                        testing::HasSubstr("must be even and from 32 to 4096, not 96 x 161"),
                        testing::HasSubstr("the frame rate must be above 0")));
    }
    EXPECT_TRUE(fs::is_empty(temporary.path()));
}

}  // namespace
